"""Names of files, made fit for every system that the file may be downloaded to."""

import re
import unicodedata
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

from pathvalidate import sanitize_filename

from ...normalization import normalize

MAX_BYTES: Final = 255
"""What a file system takes for a name, in UTF-8."""

_JOINERS: Final = "\u200c\u200d"  # that emoji and Persian need
_BLANKS: Final = f"{_JOINERS}\u115f\u1160\u2800\u3164\uffa0"  # letters and signs without ink


def _cut(text: str, size: int) -> str:
    """Return as much of a text as fits into so many bytes of UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def safe_name(given: str) -> str:
    """Return a name without folders, invisible characters and what file systems refuse.

    At most 255 bytes, without dots at its ends, and never empty. It is shown and offered for
    downloads; the folder knows the file by another name.
    """
    name = re.split(r"[/\\]", given)[-1].encode(errors="replace").decode()
    name = "".join(
        character
        for character in normalize("NFC", name)
        if character in _JOINERS or unicodedata.category(character) not in {"Cc", "Cf", "Zl", "Zp"}
    )
    suffix = PurePath(name).suffix if len(PurePath(name).suffix.encode()) <= 20 else ""
    name = _cut(name.removesuffix(suffix), MAX_BYTES - 2 - len(suffix.encode())) + suffix
    # Twice, as a dot may hide a name that Windows reserves.
    for _ in range(2):
        name = sanitize_filename(name, platform="universal").strip(". ")
    return name if name.strip(_BLANKS) else "unnamed"


def attachment(name: str) -> str:
    """Return a Content-Disposition that makes browsers save the file (RFC 6266)."""
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
