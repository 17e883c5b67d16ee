"""The standalone server (``python -m <package> --host --port --path``), and ``hash-password``."""

import argparse
import asyncio
import signal
from collections.abc import Sequence

import uvloop

from . import passwords
from .deployment import Deployment, check_reach
from .environment import read
from .server import serve
from .settings import load_settings


def port(text: str) -> int:
    """Return a TCP port. Raises ValueError, which argparse reports with this function's name."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until a signal arrives, or create an account. Raises SystemExit if that fails."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Serve the site.")
    parser.add_argument("--host", help="address to listen on (default: HOST)")
    parser.add_argument("--port", type=port, help="TCP port (default: PORT; 0 takes a free one)")
    parser.add_argument("--path", help="Unix socket; alone, no TCP port is opened")
    commands = parser.add_subparsers(metavar="", dest="command")
    account = commands.add_parser("hash-password", help="make an account for ADMIN_USERS")
    account.add_argument("name", nargs="?", default="admin", help="of the account (default: admin)")
    args = parser.parse_args(argv)
    if args.command:
        passwords.ask(args.name)
        return
    settings, deployment = load_settings(), read(Deployment)
    addresses = []
    if args.host is not None or args.port is not None:
        number = deployment.port if args.port is None else args.port
        addresses.append(f"{args.host or deployment.host}:{number}")
    if args.path:
        addresses.append(f"unix:{args.path}")
    addresses = addresses or [deployment.address]
    check_reach(settings, *addresses)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(settings, *addresses))
        except KeyboardInterrupt:  # before it served, or a second SIGINT
            raise SystemExit(128 + signal.SIGINT) from None


if __name__ == "__main__":
    main()
