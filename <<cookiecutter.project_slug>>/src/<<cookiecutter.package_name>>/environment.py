"""How settings are read, from the environment, else from .env; and what is said of wrong ones."""

import os
from difflib import SequenceMatcher
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

from pydantic import ByteSize, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

T = TypeVar("T", bound="FromEnvironment")

ALIKE: Final = {"environment": 0.85, ".env": 0.8}
"""How alike a name and a setting's are at least if one is meant to be the other; 1 is the same."""


class FromEnvironment(BaseSettings):
    """Settings with the names of the fields, in any case. Raises pydantic.ValidationError.

    What does not have a default that explains itself has an example, which messages show.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",  # .env may hold what other programs read
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
    """Return a default as it stands in .env."""
    if isinstance(value, ByteSize):
        return value.human_readable().replace(".0", "")
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


def example(kind: type[FromEnvironment], name: str) -> str:
    """Return an assignment of a good value to a setting."""
    field = kind.model_fields[name]
    return f"{name.upper()}={field.examples[0] if field.examples else _text(field.default)}"


def doubts() -> list[str]:
    """Return a sentence for each name that is probably a misspelt setting's.

    In the environment, where other programs have names too, only one of several words that hardly
    differs from a setting's, which is not set itself.
    """
    from .deployment import stray_host  # here, as it imports this module

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
    """Return the settings, or leave the process with one message that names every wrong variable.

    Raises SystemExit: doors only.
    """
    try:
        return kind()
    except ValidationError as error:
        wrong: dict[str, str] = {}
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "default_factory_not_called":  # as another setting is wrong
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
    except OSError as error:  # names the file, which may be .env or one that a setting names
        raise SystemExit(f"Cannot start: {error}") from None
