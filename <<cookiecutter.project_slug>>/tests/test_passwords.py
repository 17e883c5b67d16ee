import os
import pty
import subprocess
import sys
import unicodedata

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name import passwords
from package_name.passwords import HASHER, is_right, parse_account

from .helpers import CHEAP_HASHER, STANDALONE, read_terminal

# % endfilter
PASSWORD = "correct horse battery staple"
ASK = [sys.executable, "-c", f"import sys, {passwords.__name__} as p; p.ask(sys.argv[1])"]
"""The command hash-password, without importing the whole application."""


def type_at_terminal(command: list[str], *lines: str) -> tuple[int, str]:
    """Run a command at a terminal, and type a line at each prompt.

    Return its status and everything that the terminal shows.
    """
    terminal, child = pty.openpty()
    with subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, start_new_session=True
    ) as process:
        os.close(child)
        shown = b""
        answers = iter(lines)
        for chunk in read_terminal(terminal):
            shown += chunk
            if chunk.rstrip().endswith(b":"):
                os.write(terminal, next(answers).encode() + b"\n")
    return process.returncode, shown.decode()


def test_hash_password_command_asks_twice_and_prints_the_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, shown = type_at_terminal([*STANDALONE, "hash-password", "ada"], PASSWORD, PASSWORD)
    assert status == 0
    assert shown.count("Password: ") == shown.count("The same again: ") == 1
    assert PASSWORD not in shown
    line = shown.split()[-1]
    assert line.startswith("ADMIN_USERS='ada:$argon2id$")
    monkeypatch.setattr(passwords, "HASHER", HASHER)  # the command always uses the real hasher
    account = parse_account(line.removeprefix("ADMIN_USERS='").removesuffix("'"))
    assert account.name == "ada"
    assert is_right(account.hash.get_secret_value(), PASSWORD)
    assert not is_right(account.hash.get_secret_value(), PASSWORD + "x")


@pytest.mark.parametrize(
    ("typed", "name", "message"),
    [
        (["\x04"], "ada", "There is no account"),
        ([PASSWORD, PASSWORD + "x"], "ada", "not the same"),
        (["too short"], "ada", "fewer than 15 characters"),
        ([], "a:b", "no name of an account"),
    ],
    ids=["Ctrl-D", "two passwords", "short password", "bad name"],
)
def test_ask_prints_no_hash_when_it_refuses(typed: list[str], name: str, message: str) -> None:
    status, shown = type_at_terminal([*ASK, name], *typed)
    assert status == 1
    assert message in shown
    assert "argon2" not in shown
    assert "Traceback" not in shown


def test_lack_of_memory_is_not_a_wrong_password() -> None:
    program = f"""
import resource
from {passwords.__name__} import HASHER, is_right
hashed = HASHER.hash("right")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, -1))
is_right(hashed, "right")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "VerificationError: Memory allocation error" in done.stderr


def test_ask_refuses_what_sign_in_would_refuse() -> None:
    """The test uses a pipe, because a terminal limits a line to fewer characters."""
    for typed in ("x" * (passwords.MAX_LENGTH + 1), "\u5b57" * (passwords.MAX_LENGTH // 3 + 1)):
        done = subprocess.run(
            [*ASK, "ada"],
            input=f"{typed}\n{typed}\n",
            capture_output=True,
            encoding="utf-8",
            check=False,
            start_new_session=True,  # without a terminal
        )
        assert done.returncode == 1
        assert "more than 4096 characters or bytes" in done.stderr
        assert "argon2" not in done.stdout


def test_is_right_ignores_how_unicode_is_composed() -> None:
    hashed = CHEAP_HASHER.hash("caf\u00e9".encode())
    assert is_right(hashed, "cafe\u0301")
    assert not is_right(hashed, "cafe")
    assert not is_right(hashed, "\udcff")


def test_password_of_4096_bytes_is_verified_however_it_is_typed() -> None:
    password = "caf\u00e9 " + "x" * 4085 + "\u0301\u0316"
    assert len(password.encode()) == 4095
    hashed = CHEAP_HASHER.hash(unicodedata.normalize("NFKC", password).encode())
    assert is_right(hashed, password)
    assert is_right(hashed, unicodedata.normalize("NFC", password))
    assert is_right(CHEAP_HASHER.hash(b"x" * passwords.MAX_LENGTH), "x" * passwords.MAX_LENGTH)


@pytest.mark.parametrize("password", ["x" * 4097, "\u0301\u0316" * 1025, "\udcff" * 1366])
def test_longer_password_is_wrong_and_neither_normalised_nor_hashed(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    def refuse(*_: object) -> str:
        raise AssertionError("the password was normalised")

    monkeypatch.setattr(passwords, "normalize", refuse)
    assert not is_right("not even a hash", password)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ada", "the hash of ada is none"),
        ("ada:secret", "the hash of ada is none"),
        ("ada:=19=65536,t=3,p=4", "single quotes"),  # a shell expands $argon2id$v to this
        (":$argon2id$", "an account is name:hash"),
        ("a b:$argon2id$", "an account is name:hash"),
        # Weaker than the others: its responses would arrive sooner.
        (
            "ada:$argon2id$v=19$m=1024,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43,
            "the hash of ada is none",
        ),
    ],
    ids=["no hash", "no argon2 hash", "unquoted", "no name", "bad name", "cheaper hash"],
)
def test_parse_account_refuses_what_the_command_does_not_print(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_account(text)


def test_hasher_uses_the_second_option_of_rfc_9106() -> None:
    assert (HASHER.memory_cost, HASHER.time_cost, HASHER.parallelism) == (64 * 1024, 3, 4)
