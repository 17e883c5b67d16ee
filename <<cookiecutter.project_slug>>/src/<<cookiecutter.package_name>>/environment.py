"""Reading of settings, from the environment, else from .env; and messages about wrong settings."""

import os
from difflib import SequenceMatcher
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

from pydantic import ByteSize, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

T = TypeVar("T", bound="FromEnvironment")

ALIKE: Final = {"environment": 0.85, ".env": 0.8}
"""Minimum similarity at which a name is reported as a misspelt setting; 1 means equal names."""


class FromEnvironment(BaseSettings):
    """Settings, read from variables with the names of the fields, in upper or lower case.

    Raises pydantic.ValidationError. A field has an example if its default does not explain itself;
    messages show it.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",  # .env may contain variables of other programs
        frozen=True,
        hide_input_in_errors=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _ignore_case_of_choices(cls, value: object, info: ValidationInfo) -> object:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if get_origin(annotation) is Literal and isinstance(value, str):
            choices = {str(choice).lower(): choice for choice in get_args(annotation)}
            return choices.get(value.lower(), value)
        return value


def _text(value: Any) -> str:
    """Return a default value in the format of .env."""
    if isinstance(value, ByteSize):
        return value.human_readable().replace(".0", "")
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


def example(kind: type[FromEnvironment], name: str) -> str:
    """Return an assignment of a valid value to a setting, or of ``...`` if none is known."""
    field = kind.model_fields[name]
    default = "..." if field.is_required() else _text(field.default)
    return f"{name.upper()}={field.examples[0] if field.examples else default}"


def doubts() -> list[str]:
    """Return a sentence for each variable that is probably a misspelt setting.

    The environment also has variables of other programs. There, only a name of several words is
    reported, if it is close to the name of a setting that is not set itself.
    """
    from .deployment import stray_host  # here, because it imports this module

    kinds: list[type[FromEnvironment]] = [FromEnvironment]
    for kind in kinds:
        kinds += kind.__subclasses__()
    known = {name.upper() for kind in kinds for name in kind.model_fields}
    file = {name.upper() for name in DotEnvSettingsSource(FromEnvironment).env_vars}
    surroundings = {name.upper() for name in os.environ}
    found = [("environment", name) for name in surroundings - known if "_" in name]
    found += [(".env", name) for name in file - known]
    sentences = []
    for place, name in sorted(found):
        free = known - surroundings - file if place == "environment" else known
        ratios = {SequenceMatcher(None, name, other).ratio(): other for other in sorted(free)}
        if ratios and max(ratios) >= ALIKE[place]:
            where = "the environment" if place == "environment" else place
            sentences.append(f"{name} in {where} is not a setting, but {ratios[max(ratios)]} is")
    if host := stray_host():
        sentences.append(f"HOST={host} in the environment is ignored, as it is not an address")
    return sentences


def read(kind: type[T]) -> T:
    """Return the settings, or exit with one message that names every wrong variable.

    Raises SystemExit. Call it from entry points only.
    """
    try:
        return kind()
    except ValidationError as error:
        wrong: dict[str, str] = {}
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "default_factory_not_called":  # because another setting is wrong
                continue
            if not item["loc"]:
                wrong["Together"] = message
                continue
            name = str(item["loc"][0])
            wrong.setdefault(name.upper(), f"{message}; for example {example(kind, name)}")
        lines = [f"  {name}: {message}" for name, message in wrong.items()]
        lines += [f"  {sentence}" for sentence in doubts()]
        raise SystemExit("\n".join(["Cannot start, the settings are wrong:", *lines])) from None
    except UnicodeDecodeError as error:
        raise SystemExit(f"Cannot start, .env cannot be read: {error}") from None
    except OSError as error:  # the message contains the file: .env, or one in a setting
        raise SystemExit(f"Cannot start: {error}") from None
