import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.__main__ import main

from .helpers import TIMEOUT


# % endfilter
@pytest.fixture(autouse=True)
def _stop_after_timeout(restored_logging: None) -> Iterator[None]:
    """Stop the server if main() starts it instead of refusing."""
    timer = Timer(TIMEOUT, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    yield
    timer.cancel()


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_main_refuses_an_invalid_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--port={port}"])
    assert "--port" in capsys.readouterr().err


def test_main_exits_with_one_message_if_settings_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SECRET_KEYS")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SystemExit) as error:
        main(["--port=0"])
    first, *lines = str(error.value).splitlines()
    assert first == "Cannot start, the settings are wrong:"
    assert sorted(line.split(":")[0] for line in lines) == ["  LOG_LEVEL", "  SECRET_KEYS"]


def test_main_refuses_addresses_in_use_and_leaves_them_alone(tmp_path: Path) -> None:
    used = tmp_path / "used.sock"
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(str(used))
        unix.listen()
        with pytest.raises(SystemExit, match=r"Cannot listen on 127\.0\.0\.1:"):
            main([f"--port={tcp.getsockname()[1]}"])
        with pytest.raises(SystemExit, match="another server listens"):
            main([f"--path={used}"])
        assert used.is_socket()


def test_main_refuses_a_path_that_cannot_become_a_socket(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(SystemExit, match="is no socket"):
        main([f"--path={file}"])
    assert file.read_text() == "precious"
    with pytest.raises(SystemExit, match="Cannot listen"):
        main([f"--path={tmp_path / 'no' / 'folder'}"])


@pytest.mark.parametrize(
    ("file", "arguments", "address"),
    [
        ("HOST=127.0.0.1\nPORT={port}", [], "127.0.0.1:{port}"),
        ("HOST=::1\nPORT={port}", [], "[::1]:{port}"),
        ("BIND=localhost:{port}", [], "localhost:{port}"),
        ("BIND=unix:{folder}/used", [], "unix:{folder}/used"),
        ("PORT={port}", ["--host=localhost"], "localhost:{port}"),
        ("HOST=0.0.0.0", ["--port={port}"], "0.0.0.0:{port}"),
    ],
)
def test_main_listens_where_the_settings_say(
    tmp_path: Path, file: str, arguments: list[str], address: str
) -> None:
    """All addresses are in use, so the error message names the address."""
    used = tmp_path / "used"
    with socket.create_server(("", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        port = tcp.getsockname()[1]
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            unix.bind(str(used))
            unix.listen()
            (tmp_path / ".env").write_text(file.format(port=port, folder=tmp_path))
            with pytest.raises(SystemExit) as error:
                main([argument.format(port=port) for argument in arguments])
    where = address.format(port=port, folder=tmp_path)
    assert str(error.value).startswith(f"Cannot listen on {where}: ")


@pytest.mark.usefixtures("development")
@pytest.mark.parametrize("argument", ["--host=0.0.0.0", "--host=::", "--path=app.sock"])
def test_main_serves_development_to_this_host_alone(argument: str) -> None:
    with pytest.raises(SystemExit, match="ENVIRONMENT=development is for this host alone"):
        main([argument])
