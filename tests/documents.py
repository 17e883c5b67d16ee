"""The commands in a baked project's documents, which tests run as written."""

import re

from conftest import Project

DEPLOY = "deploy/README.md"


def sections(project: Project, document: str) -> dict[str, list[str]]:
    """Return the indented lines of a document by the heading above them."""
    found: dict[str, list[str]] = {}
    text = re.sub(r" *\\\n *", " ", (project.path / document).read_text())  # join continued lines
    for part in re.split("^#+ ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        if lines := re.findall(r"^    +(\S.*)$", rest, re.MULTILINE):
            found[heading] = lines
    return found


def setting(line: str) -> str | None:
    """Return a line for .env, or None if the line is not a setting."""
    found = re.fullmatch(r"([A-Z_]+=\S*)( +#.*)?", line)
    return found and found[1]
