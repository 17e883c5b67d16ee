"""Compression of the static files: ``python -m <package>.web.precompress DIR``.

``make static`` runs it before a deployment; nginx (gzip_static) and web/static.py send the results.
"""

import gzip
import shutil
import sys
from pathlib import Path

import brotli

from .static import CODINGS

COMPRESSED = {".gz", ".br", ".png", ".jpg", ".jpeg", ".webp", ".avif", ".woff", ".woff2"}
"""Suffixes of files that compression does not make smaller."""


def precompress(directory: Path) -> list[Path]:
    """Write the compressed siblings of files if they save at least a tenth. Return their paths.

    Files are replaced atomically, because a running server may be sending them.
    """
    written = []
    for path in sorted(directory.rglob("*")):
        if not path.is_file() or path.suffix in COMPRESSED:
            continue
        data = path.read_bytes()
        smaller = {
            "br": brotli.compress(data, mode=brotli.MODE_TEXT),
            "gzip": gzip.compress(data, 9, mtime=0),
        }
        for coding, compressed in smaller.items():
            sibling = Path(f"{path}{CODINGS[coding][0]}")
            if len(compressed) > 0.9 * len(data):
                sibling.unlink(missing_ok=True)
                continue
            unfinished = Path(f"{sibling}.tmp")
            unfinished.write_bytes(compressed)
            shutil.copymode(path, unfinished)
            unfinished.replace(sibling)
            written.append(sibling)
    return written


if __name__ == "__main__":
    for path in precompress(Path(sys.argv[1])):
        print(path)
