"""All settings, with types: from the environment, else from .env in the working directory."""

import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import NoDecode

from .environment import FromEnvironment, read
from .passwords import Account, parse_account

Peer = IPv4Network | IPv6Network | Literal["unix"]
T = TypeVar("T")

_ORIGIN: Final = re.compile(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?")
_PORTS: Final = {"http": 80, "https": 443}

DEVELOPMENT_KEY: Final = "development"
"""Prefix of keys that are valid in development only, such as the key in .env.example."""


def _split(value: object) -> object:
    """Return ``["a", "b"]`` for ``"a, b"``, and an empty list for an empty string."""
    if isinstance(value, str):
        return [part for part in re.split(r"[\s,]+", value) if part]
    return value


def _words(value: object) -> object:
    """Return the words of a string. Do not split at commas: password hashes contain them."""
    # Some parsers of environment files keep the quotes.
    return value.strip("'\"").split() if isinstance(value, str) else value


def _peer(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lower() == "unix":
        return "unix"
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}; name networks, or unix") from None


def _host(value: object) -> object:
    if re.fullmatch(r"\*|(\*\.)?[\w.-]+|\[[\da-fA-F:.]+\]", str(value), re.ASCII):
        return str(value).lower()
    raise ValueError("name hosts without scheme and port")


def _origin(value: object) -> object:
    match = _ORIGIN.fullmatch(str(value).lower())
    if match is None or int(match[3] or 0) > 65535:
        raise ValueError("name origins without a path, and hosts in ASCII (xn--...)")
    scheme, host, port = match.groups()
    # Without the default port, as browsers send it.
    return f"{scheme}://{host}" + (f":{int(port)}" if port and int(port) != _PORTS[scheme] else "")


def _folder(path: Path) -> Path:
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{there} is not a writable folder")
    return path


def _bus(url: str) -> str:
    folder = url.removeprefix("local:")
    if folder == url or (folder and not folder.startswith("/")):
        raise ValueError("name local: and an absolute folder, or none")
    if len(os.fsencode(folder)) > 80:  # a socket's address has at most 107, with its name
        raise ValueError("the folder's path is longer than 80 bytes")
    if folder and _folder(Path(folder)).exists() and Path(folder).stat().st_mode & 0o077:
        raise ValueError(f"{folder} can be read by others: chmod 700")
    return url


def _location(path: str) -> str:
    if path and not re.fullmatch(r"/[\w/-]*", path, re.ASCII):
        raise ValueError("name a location of nginx")
    return path


# % if cookiecutter.database == "sqlite"
def _sqlite_url(url: str) -> str:
    file = re.fullmatch("sqlite:///([^:?#]+)", url)
    if not file:
        raise ValueError("name a file, after three slashes")
    _folder(Path(file[1]).parent)
    return url


# % endif
# % if cookiecutter.database == "postgresql"
def _postgresql_url(url: SecretStr) -> SecretStr:
    from yarl import URL  # here, because nothing else needs it

    try:
        parts = URL(url.get_secret_value())
        named = len(parts.path) > 1 and not parts.fragment
        if parts.scheme in {"postgres", "postgresql"} and named and parts.port != 0:
            return url
    except ValueError:  # from the port, which is parsed last; the message may quote the password
        pass
    raise ValueError("name a database; in the password, write / ? # @ : as %2F %3F %23 %40 %3A")


# % endif
Many = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_split)]
"""Several values, separated by commas or spaces."""


class Mode(FromEnvironment):
    """The setting that selects development or production."""

    environment: Literal["development", "production"] = "production"

    @property
    def development(self) -> bool:
        """True if information for developers may be shown to every client."""
        return self.environment == "development"


class Settings(Mode):
    """Settings of the application; .env.example describes every field.

    Raises pydantic.ValidationError if a value is missing or wrong. Entry points call
    load_settings() instead, which reports all errors in one message.
    """

    secret_keys: Annotated[
        Many[SecretStr], Field(min_length=1, examples=["<printed by `make secret`>"])
    ]
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    allowed_hosts: Annotated[Many[Annotated[str, BeforeValidator(_host)]], Field(min_length=1)] = (
        "<< cookiecutter.domain_name | lower >>",
        "localhost",
        "127.0.0.1",
        "[::1]",
    )
    trusted_proxies: Many[Annotated[Peer, BeforeValidator(_peer)]] = Field(
        default=(), examples=["10.0.0.0/8,unix"]
    )
    dev_allow: Many[Annotated[Peer, BeforeValidator(_peer)]] = Field(
        default=(), examples=["192.168.1.0/24"]
    )
    cors_origins: Many[Annotated[str, BeforeValidator(_origin)]] = Field(
        default=(), examples=["https://app.example.com"]
    )

    keepalive_timeout: float = Field(default=75, gt=0, allow_inf_nan=False)
    read_timeout: float = Field(default=10, gt=0, allow_inf_nan=False)
    graceful_timeout: float = Field(default=30, gt=0, allow_inf_nan=False)
    drain_timeout: float = Field(default=5, gt=0, allow_inf_nan=False)
    max_body_size: ByteSize = Field(default=ByteSize(1024**2), gt=0)
    max_websockets: int = Field(default=100, gt=0)
    bus_url: Annotated[str, AfterValidator(_bus)] = "local:"

    # % if cookiecutter.database == "sqlite"
    database_url: Annotated[str, AfterValidator(_sqlite_url)] = "sqlite:///data/app.db"
    # % endif
    # % if cookiecutter.database == "postgresql"
    database_url: Annotated[SecretStr, AfterValidator(_postgresql_url)] = SecretStr(
        "postgresql:///<< cookiecutter.package_name >>"
    )
    database_wait: float = Field(default=20, ge=0, allow_inf_nan=False)
    # % endif
    # % if cookiecutter.database != "none"
    database_pool_size: int = Field(default=5, ge=1, le=100)
    database_timeout: float = Field(default=5, gt=0, allow_inf_nan=False)
    database_statement_timeout: float = Field(default=10, gt=0, allow_inf_nan=False)

    # Used by the news feature only.
    api_tokens: Many[SecretStr] = Field(default=(), examples=["<printed by `make secret`>"])

    # % endif
    # Used by the admin only.
    admin_users: Annotated[
        tuple[Annotated[Account, BeforeValidator(parse_account)], ...],
        NoDecode,
        BeforeValidator(_words),
    ] = Field(default=(), examples=["<printed by `make password name=ada`>"])
    session_idle_timeout: int = Field(default=30 * 60, gt=0)
    session_lifetime: int = Field(default=12 * 60 * 60, gt=0)
    upload_folder: Annotated[Path, AfterValidator(_folder)] = Path("uploads")
    max_upload_size: ByteSize = Field(default=ByteSize(100 * 1024**2), gt=0)
    accel_redirect: Annotated[str, AfterValidator(_location)] = Field(
        default="", examples=["/_files/"]
    )

    @field_validator("admin_users")
    @classmethod
    def _refuse_namesakes(cls, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
        if len({account.name for account in accounts}) < len(accounts):
            raise ValueError("two accounts have the same name")
        return accounts

    # % if cookiecutter.database != "none"
    @field_validator("api_tokens")
    @classmethod
    def _refuse_short_tokens(cls, tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(token.get_secret_value()) < 32 for token in tokens):
            raise ValueError("a token has fewer than 32 characters")
        return tokens

    # % endif
    @field_validator("secret_keys")
    @classmethod
    def _refuse_bad_keys(
        cls, keys: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        for key in keys:
            text = key.get_secret_value()
            if len(text) < 32:
                raise ValueError("a key has fewer than 32 characters")
            development = info.data.get("environment") == "development"
            if text.lower().startswith(DEVELOPMENT_KEY) and not development:
                raise ValueError("a key is for development, and ENVIRONMENT is not")
        return keys


def load_settings() -> Settings:
    """Return the settings, or exit with one message that names every wrong variable.

    Raises SystemExit. Call it from entry points only.
    """
    return read(Settings)
