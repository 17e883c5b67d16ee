"""The standalone server: ``python -m <package> --host --port --path``; and ``hash-password``."""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import uvloop

from . import passwords
from .server import serve
from .settings import load_settings


def port(text: str) -> int:
    """Parse a TCP port. Raises ValueError, which argparse turns into a message with this name."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until a signal comes, or make an account. Raises SystemExit when it cannot."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Serve the site.")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, help="TCP port (default: 8080; 0 takes a free one)")
    parser.add_argument("--path", type=Path, help="Unix socket; alone, no TCP port is opened")
    commands = parser.add_subparsers(metavar="", dest="command")
    account = commands.add_parser("hash-password", help="make an account for ADMIN_USERS")
    account.add_argument("name", nargs="?", default="admin", help="of the account (default: admin)")
    args = parser.parse_args(argv)
    if args.command:
        passwords.ask(args.name)
        return
    if args.path is None or args.host is not None or args.port is not None:
        args.host = args.host or "127.0.0.1"
        args.port = 8080 if args.port is None else args.port
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(load_settings(), host=args.host, port=args.port, path=args.path))
        except KeyboardInterrupt:  # before it served, or the second one
            raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    main()
