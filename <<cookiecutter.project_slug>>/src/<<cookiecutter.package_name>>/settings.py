"""All settings, typed: from the environment, else from a file named .env in the working directory."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal, Self

from aiohttp import web
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Peer = IPv4Network | IPv6Network | Literal["unix"]

DEVELOPMENT_KEY: Final = "development"
"""What a key begins with that is good for development only, as the one in .env.example."""


def _split(value: object) -> object:
    """Take ``"a, b"`` for ``["a", "b"]`` and the empty string for no element."""
    if isinstance(value, str):
        return [part for part in re.split(r"[\s,]+", value) if part]
    return value


def _peer(value: object) -> object:
    if not isinstance(value, str) or value == "unix":
        return value
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}; name networks such as 10.0.0.0/8, or unix") from None


def _key(value: object) -> object:
    if isinstance(value, str) and len(value) < 32:
        raise ValueError("a key has fewer than 32 characters; `make secret` prints a good one")
    return value


class Settings(BaseSettings):
    """What can be set from outside; every field is described in .env.example.

    Raises pydantic.ValidationError when a value is missing or wrong. The doors call load_settings()
    instead, which says the same in one message.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",  # .env may hold what other programs read
        frozen=True,
        hide_input_in_errors=True,
    )

    environment: Literal["development", "production"] = "production"
    secret_keys: Annotated[
        tuple[Annotated[SecretStr, BeforeValidator(_key)], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(min_length=1),
    ]
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    trusted_proxies: Annotated[
        tuple[Annotated[Peer, BeforeValidator(_peer)], ...], NoDecode, BeforeValidator(_split)
    ] = ()
    keepalive_timeout: float = Field(default=75, gt=0)
    graceful_timeout: float = Field(default=30, gt=0)

    @property
    def development(self) -> bool:
        """True where what helps developers may be shown to whoever asks."""
        return self.environment == "development"

    @model_validator(mode="after")
    def _refuse_development_keys(self) -> Self:
        if not self.development and any(
            key.get_secret_value().startswith(DEVELOPMENT_KEY) for key in self.secret_keys
        ):
            raise ValueError(
                "a key is for development, and ENVIRONMENT is production; `make secret` prints one"
            )
        return self


SETTINGS: Final = web.AppKey("SETTINGS", Settings)


def load_settings() -> Settings:
    """Return the settings, or leave the process with one message that names every wrong variable.

    Raises SystemExit: doors only.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong: dict[str, str] = {}
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            name = str(item["loc"][0]).upper() if item["loc"] else "SECRET_KEYS"
            wrong.setdefault(name, item["msg"].removeprefix("Value error, "))
        lines = [f"  {name}: {message}" for name, message in wrong.items()]
        raise SystemExit("\n".join(["Cannot start, the settings are wrong:", *lines])) from None
    except UnicodeDecodeError as error:
        raise SystemExit(f"Cannot start, .env is not UTF-8: {error}") from None
