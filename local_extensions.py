"""An extension of Jinja that rejects invalid answers, with a sentence for each.

cookiecutter.json calls it after the last answer: cookiecutter then prints only the sentences. The
hook calls it again, because only a hook knows the answers as they were given, and for replay files.
"""

import keyword
import re
import sys
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cookiecutter.exceptions import InvalidModeException
from jinja2 import Environment
from jinja2.ext import Extension

Answers = Mapping[str, Any]

# Top-level modules of the dependencies (tests/test_answers.py compares the list with them).
INSTALLED = """
    _argon2_cffi_bindings _brotli _cffi_backend _distutils_hack _pytest aiohappyeyeballs aiohttp
    aiohttp_cors aiohttp_debugtoolbar aiohttp_devtools aiohttp_jinja2 aiohttp_session aiojobs
    aiosignal aiosqlite alembic annotated_types anyio argon2 ast_serialize asttokens asyncpg attr
    attrs brotli cffi click colorama coverage cryptography deprecated devtools dotenv editables
    execnet executing frozenlist greenlet gunicorn hatchling idna iniconfig jinja2 librt limits
    mako markdown_it markupsafe mdurl multidict mypy mypy_extensions mypyc nh3 orjson packaging
    pathspec pathvalidate pip pkg_resources pluggy propcache py pycparser pydantic pydantic_core
    pydantic_settings pygments pytest pytest_aiohttp pytest_asyncio pytest_cov pytest_randomly
    ruff setuptools six sqlalchemy structlog supervisor tomlkit trove_classifiers
    typing_extensions typing_inspection uv uvloop watchfiles wrapt xdist yarl
""".split()  # noqa: SIM905
# Distributions among them whose names differ from the names of their modules.
DISTRIBUTIONS = ["argon2_cffi", "argon2_cffi_bindings", "markdown_it_py", "python_dotenv"]
# Modules of the standard library of other Python versions from 3.11 on, and its tests.
OTHER_STDLIB = """
    aifc annotationlib asynchat asyncore audioop cgi cgitb chunk compression crypt distutils imghdr
    imp lib2to3 mailcap msilib nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib test
    tomllib uu xdrlib
""".split()  # noqa: SIM905
# Folders of the project that Python could import instead of the package.
OF_THE_PROJECT = ["certs", "data", "deploy", "migrations", "run", "src", "tests", "uploads"]

# The service's user, group and unit are named after the project.
OF_THE_SYSTEM = ["daemon", "nginx", "nobody", "nogroup", "root", "supervisor", "www-data"]

CHOICES = {
    "database": ["sqlite", "postgresql", "none"],
    "license": ["MIT", "BSD-3-Clause", "Apache-2.0", "proprietary"],
}
# Keys that cookiecutter adds after the answers, and the key whose only use is to call this.
UNCHECKED = ["_checkout", "_output_dir", "_repo_dir", "_template", "__checked"]
REFUSED_SLUG = "refused-by-aiohttp-prod"  # replaces a slug that would be a path

DELIMITERS = {
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "block_start_string": "<%",
    "block_end_string": "%>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
    "line_statement_prefix": "# %",
}
JOINERS = "\u200c\u200d\u200e\u200f"  # needed for emoji and right-to-left scripts
DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
PACKAGE = re.compile(r"[a-z][a-z0-9_]{0,39}")
LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"(?=.{{1,253}}$)({LABEL}\.)+(?![0-9]+$){LABEL}", re.IGNORECASE)
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LOCAL_PART = re.compile(rf"(?=.{{1,64}}$){ATOM}(\.{ATOM})*")


def private_answers(answers: Answers) -> dict[str, object]:
    """Return the values from cookiecutter.json of the answers that begin with ``_``."""
    slug, asked, year = (answers[key] for key in ("project_slug", "__asked_slug", "__year"))
    now = datetime.now(UTC).year
    years = [str(each) for each in (*range(2026, now), now)]  # a replay file may be older
    service = slug.lower().replace(".", "-").replace("_", "-")
    service = f"app-{service}" if slug[:1].isdigit() else service
    texts = ("project_name", "description", "author_name")
    return {
        "__asked_slug": asked if slug == REFUSED_SLUG else slug,
        "__made_slug": "",
        "__service": service[:32].strip("-"),
        "__year": year if year in years else now,
        **{f"__{key}": escaped(answers[key]) for key in texts},
        "_jinja2_env_vars": DELIMITERS,
        "_copy_without_render": {},
        "_extensions": {"local_extensions.CheckAnswers": ""},
        "_new_lines": {},
    }


def escaped(text: str) -> str:
    """Return a text escaped for a double-quoted string of TOML."""
    return text.replace("\\", r"\\").replace('"', r"\u0022")


def check_choice(answers: Answers, key: str) -> str | None:
    """Return a sentence if the answer, which may come from a replay file, is not in the list."""
    if answers[key] in CHOICES[key]:
        return None
    return f"The {key} is {answers[key]!r}; it may be {' or '.join(CHOICES[key])}."


def check_text(answers: Answers, given: Answers, key: str) -> str | None:
    """Return a sentence if a free text is invalid: it must fit on a line of every kind of file."""
    text, name = answers[key], key.replace("_", " ")
    raw = str(given.get(key, text))
    if raw != text and re.search(r"<(%|#|<)|^\s*# %", raw, re.MULTILINE):
        return (
            f"The {name} {raw!r} was given as a template; give plain text,"
            " or leave it out and type it at the prompt."
        )
    if not text.strip(f" {JOINERS}"):
        return f"The {name} is empty; it needs at least one letter."
    if len(text) > 200:
        return f"The {name} has {len(text)} characters; it may have up to 200."
    for character in text:
        if unicodedata.category(character)[0] in "CZ" and character not in f" {JOINERS}":
            return (
                f"The {name} holds U+{ord(character):04X}, which cannot be seen;"
                " it may hold letters, signs, emoji and plain spaces, on one line."
            )
    return None


def check_slug(answers: Answers) -> str | None:
    """Return a sentence if the distribution's name is invalid (Core Metadata, Name) or reserved."""
    slug = answers["__asked_slug"]
    if re.sub("[._-]+", "_", slug).lower() in [*INSTALLED, *DISTRIBUTIONS]:
        return (
            f"The project slug {slug!r} is a package that the project depends on; choose another."
        )
    if slug.lower() in OF_THE_SYSTEM:
        return f"The project slug {slug!r} is the name of a user or service; choose another."
    if len(slug) <= 80 and DISTRIBUTION.fullmatch(slug) and slug == answers["project_slug"]:
        return None
    return (
        f"The project slug {slug!r} is no legal name of a distribution; it may have up to 80 ASCII"
        " letters, digits, '.', '_' and '-', and begins and ends with a letter or digit,"
        " such as my-service."
    )


def check_package(answers: Answers) -> str | None:
    """Return a sentence if the import name is invalid or not free."""
    package = answers["package_name"]
    if not PACKAGE.fullmatch(package):
        reason = "is no lower-case identifier of up to 40 ASCII letters, digits and '_'"
    elif keyword.iskeyword(package):
        reason = "is a keyword of Python"
    elif package in sys.stdlib_module_names or package in OTHER_STDLIB:
        reason = "is a module of Python's standard library"
    elif package in INSTALLED:
        reason = "is the import name of a package that the project depends on"
    elif package in OF_THE_PROJECT:
        reason = "is another folder of the project"
    else:
        return None
    return f"The package name {package!r} {reason}; choose one that is free, such as my_service."


def check_domain(answers: Answers) -> str | None:
    """Return a sentence if the domain name is invalid (RFC 1123, section 2.1)."""
    domain = answers["domain_name"]
    if DOMAIN.fullmatch(domain):
        return None
    return (
        f"{domain!r} is no domain name; give one such as www.example.com, without scheme, port or"
        " path, and an international one in its xn-- form."
    )


def check_email(answers: Answers) -> str | None:
    """Return a sentence if the e-mail address is invalid."""
    email = answers["author_email"]
    local_part, _, domain = email.rpartition("@")
    if LOCAL_PART.fullmatch(local_part) and DOMAIN.fullmatch(domain):
        return None
    return f"{email!r} is no e-mail address; give one such as ada@example.com."


def problems(answers: Answers, given: Answers) -> list[str]:
    """Return a sentence for each invalid answer.

    ``given`` has the answers before cookiecutter rendered them as templates.
    """
    public = [key for key in answers if key[0] != "_"]
    if no_text := [key for key in public if not isinstance(answers[key], str)]:
        return [f"The answers to {', '.join(no_text)} are no text; put them into quotation marks."]
    expected = private_answers(answers)
    private = [
        key
        for key in answers.keys() - {*public, *UNCHECKED}
        if key not in expected or answers[key] != expected[key]
    ]
    if private:
        names = ", ".join(sorted(private))
        return [f"Leave out {names}: answers that begin with _ cannot be given."]
    found = [
        check_text(answers, given, "project_name"),
        check_slug(answers),
        check_package(answers),
        check_text(answers, given, "description"),
        check_text(answers, given, "author_name"),
        check_email(answers),
        check_domain(answers),
        *(check_choice(answers, key) for key in CHOICES),
    ]
    return [problem for problem in found if problem]


class BadAnswersError(InvalidModeException):  # type: ignore[misc] # cookiecutter has no types
    """Exception that cookiecutter prints without a traceback, even if a hook raises it."""


def check_answers(answers: Answers, given: Answers | None = None) -> str:
    """Return an empty string. Raises BadAnswersError with a sentence for each invalid answer."""
    # The answers of an old replay file follow the keys that are new in cookiecutter.json.
    if "project_name" in answers and (found := problems(answers, given or {})):
        if "_output_dir" in answers:  # in the hook: cookiecutter does not delete the folder
            with suppress(OSError):
                Path(answers["_output_dir"], answers["project_slug"]).rmdir()
        raise BadAnswersError("\n".join(found))
    return ""


class CheckAnswers(Extension):
    """Extension that makes ``check_answers`` available to cookiecutter.json and the hook."""

    def __init__(self, environment: Environment) -> None:
        """Add the function to the globals of the environment."""
        super().__init__(environment)
        environment.globals["check_answers"] = check_answers
