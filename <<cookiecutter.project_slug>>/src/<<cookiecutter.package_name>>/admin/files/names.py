"""File names that are valid on every system."""

import re
import unicodedata
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

from pathvalidate import sanitize_filename

from ...normalization import normalize

MAX_BYTES: Final = 255
"""Maximum length of a file name, in bytes of UTF-8."""

_JOINERS: Final = "\u200c\u200d"  # needed for emoji and Persian
_BLANKS: Final = f"{_JOINERS}\u115f\u1160\u2800\u3164\uffa0"  # characters that are not visible


def _cut(text: str, size: int) -> str:
    """Return the beginning of a text that fits into ``size`` bytes of UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def safe_name(given: str) -> str:
    """Return a name without folders, invisible characters and characters that file systems reject.

    The name has at most 255 bytes, no dots at its ends, and is never empty. It is used for display
    and downloads only; on disk the file has another name.
    """
    name = re.split(r"[/\\]", given)[-1].encode(errors="replace").decode()
    name = "".join(
        character
        for character in normalize("NFC", name)
        if character in _JOINERS or unicodedata.category(character) not in {"Cc", "Cf", "Zl", "Zp"}
    )
    suffix = PurePath(name).suffix if len(PurePath(name).suffix.encode()) <= 20 else ""
    name = _cut(name.removesuffix(suffix), MAX_BYTES - 2 - len(suffix.encode())) + suffix
    # Twice, because a dot may hide a reserved name of Windows.
    for _ in range(2):
        name = sanitize_filename(name, platform="universal").strip(". ")
    return name if name.strip(_BLANKS) else "unnamed"


def attachment(name: str) -> str:
    """Return the Content-Disposition header that makes browsers save the file (RFC 6266)."""
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
