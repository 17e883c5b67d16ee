import os
import pty
import subprocess

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.passwords import HASHER, is_right, parse_account

from .helpers import STANDALONE

# % endfilter
PASSWORD = "correct horse battery staple"


def hash_password(*typed: str, name: str = "ada") -> tuple[int, str]:
    """Run the command at a terminal. Returns its status and all that the terminal shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*STANDALONE, "hash-password", name],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        answers = iter(typed)
        try:
            while chunk := os.read(ours, 1000):
                shown += chunk
                if chunk.rstrip().endswith(b":"):
                    os.write(ours, next(answers).encode() + b"\n")
        except OSError:  # the terminal was hung up
            pass
        os.close(ours)
        return process.wait(), shown.decode()


def test_the_command_asks_twice_and_prints_the_account() -> None:
    status, shown = hash_password(PASSWORD, PASSWORD)
    assert status == 0
    assert shown.count("Password: ") == shown.count("The same again: ") == 1
    assert PASSWORD not in shown
    line = shown.split()[-1]
    assert line.startswith("ADMIN_USERS='ada:$argon2id$")
    account = parse_account(line.removeprefix("ADMIN_USERS='").removesuffix("'"))
    assert account.name == "ada"
    assert is_right(account.hash.get_secret_value(), PASSWORD)
    assert not is_right(account.hash.get_secret_value(), PASSWORD + "x")


@pytest.mark.parametrize(
    ("typed", "name", "said"),
    [
        (["\x04"], "ada", "There is no account"),  # Ctrl-D
        ([PASSWORD, PASSWORD + "x"], "ada", "not the same"),
        (["too short"], "ada", "fewer than 15 characters"),
        ([], "a:b", "no name of an account"),
    ],
)
def test_the_command_refuses(typed: list[str], name: str, said: str) -> None:
    status, shown = hash_password(*typed, name=name)
    assert status == 1
    assert said in shown
    assert "argon2" not in shown
    assert "Traceback" not in shown


def test_a_password_is_the_same_however_it_is_typed() -> None:
    hashed = HASHER.hash("caf\u00e9".encode())
    assert is_right(hashed, "cafe\u0301")
    assert not is_right(hashed, "cafe")
    assert not is_right(hashed, "\udcff")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ada", "the hash of ada is none"),
        ("ada:secret", "the hash of ada is none"),
        ("ada:=19=65536,t=3,p=4", "single quotes"),  # what a shell makes of $argon2id$v
        (":$argon2id$", "an account is name:hash"),
        ("a b:$argon2id$", "an account is name:hash"),
        # Cheaper than the others, so that its answers would come sooner.
        (
            "ada:$argon2id$v=19$m=1024,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43,
            "the hash of ada is none",
        ),
    ],
)
def test_what_is_no_account(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_account(text)
