"""All settings, typed: from the environment, else from a file named .env in the working directory."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
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
        tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)
    ]
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    trusted_proxies: Annotated[
        tuple[Annotated[Peer, BeforeValidator(_peer)], ...], NoDecode, BeforeValidator(_split)
    ] = ()
    keepalive_timeout: float = Field(default=75, gt=0, allow_inf_nan=False)
    graceful_timeout: float = Field(default=30, gt=0, allow_inf_nan=False)

    @property
    def development(self) -> bool:
        """True where what helps developers may be shown to whoever asks."""
        return self.environment == "development"

    @field_validator("secret_keys")
    @classmethod
    def _refuse_bad_keys(
        cls, keys: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        for key in keys:
            text = key.get_secret_value()
            if len(text) < 32:
                raise ValueError("a key has fewer than 32 characters; `make secret` prints one")
            development = info.data.get("environment") == "development"
            if text.lower().startswith(DEVELOPMENT_KEY) and not development:
                raise ValueError(
                    "a key is for development, and ENVIRONMENT is not; `make secret` prints one"
                )
        return keys


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
            name = str(item["loc"][0]).upper()
            wrong.setdefault(name, item["msg"].removeprefix("Value error, "))
        lines = [f"  {name}: {message}" for name, message in wrong.items()]
        raise SystemExit("\n".join(["Cannot start, the settings are wrong:", *lines])) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"Cannot start, .env cannot be read: {error}") from None
