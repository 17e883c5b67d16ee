"""Passwords: the hashes in ADMIN_USERS, and the command that creates them."""

import re
import sys
from getpass import getpass
from typing import Final, NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from argon2.profiles import RFC_9106_LOW_MEMORY
from pydantic import SecretStr

from .normalization import normalize

HASHER: Final = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
"""Hasher with the second recommended option of RFC 9106, section 4: 64 MiB of memory per hash."""

MIN_LENGTH: Final = 15
"""Minimum characters of a password without a second factor (NIST SP 800-63B-4, 3.1.1.2)."""

MAX_LENGTH: Final = 4096
"""Maximum length in characters, and in bytes of UTF-8: more than a line of a terminal holds."""

NAME: Final = re.compile(r"[A-Za-z0-9._@+-]{1,64}")


class Account(NamedTuple):
    """An account that can sign in."""

    name: str
    hash: SecretStr

    def __str__(self) -> str:
        """Return the name, without the hash."""
        return self.name


def parse_account(value: object) -> Account:
    """Return the account that ``name:hash`` describes. Raises ValueError if the value is invalid.

    All hashes cost the same: otherwise the response time would reveal which names exist.
    """
    name, _, hashed = str(value).partition(":")
    if not NAME.fullmatch(name):
        raise ValueError("an account is name:hash, and accounts are separated by spaces")
    try:
        if HASHER.check_needs_rehash(hashed):
            raise InvalidHashError
    except InvalidHashError:
        raise ValueError(
            f"the hash of {name} is none that `make password` makes; are there single quotes around"
            " the value, and spaces between accounts?"
        ) from None
    return Account(name, SecretStr(hashed))


def is_too_long(password: str) -> bool:
    """Return True if a password has more than MAX_LENGTH characters or bytes."""
    return len(password) > MAX_LENGTH or len(password.encode("utf-8", "surrogatepass")) > MAX_LENGTH


def _prepared(password: str) -> bytes:
    # The same password may be entered in several ways (NIST SP 800-63B-4, 3.1.1.2).
    return normalize("NFKC", password).encode("utf-8", "surrogatepass")


def is_right(hashed: str, password: str) -> bool:
    """Return True if a password matches the hash. This takes about a tenth of a second.

    Raises argon2.exceptions.VerificationError if the password cannot be verified.
    """
    if is_too_long(password):
        return False
    try:
        return HASHER.verify(hashed, _prepared(password))
    except VerifyMismatchError:  # only this: a lack of memory, for example, proves nothing
        return False


def dummy_hash() -> str:
    """Return a hash that matches no password, for unknown names: it takes as long to verify."""
    costs = f"m={HASHER.memory_cost},t={HASHER.time_cost},p={HASHER.parallelism}"
    return f"$argon2id$v=19${costs}${'A' * 22}${'A' * 43}"


def ask(name: str) -> None:
    """Prompt twice for a password and print the account. Raises SystemExit if it is invalid."""
    if not NAME.fullmatch(name):
        sys.exit(f"{name!r} is no name of an account: up to 64 letters, digits and . _ @ + -")
    try:
        password = getpass("Password: ")
        if len(password) < MIN_LENGTH:
            sys.exit(f"It has fewer than {MIN_LENGTH} characters; a few words make a good one.")
        if is_too_long(password):
            sys.exit(f"It has more than {MAX_LENGTH} characters or bytes.")
        if getpass("The same again: ") != password:
            sys.exit("The two are not the same.")
    except (EOFError, KeyboardInterrupt):
        sys.exit("\nThere is no account.")
    print(f"ADMIN_USERS='{name}:{HASHER.hash(_prepared(password))}'")
