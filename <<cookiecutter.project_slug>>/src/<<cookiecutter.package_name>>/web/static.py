"""Static files under versioned URLs, which browsers may keep for good.

A resource of our own (row W17), because aiohttp's opens and hashes a file each time a page names it.
"""

import asyncio
import base64
import hashlib
import mimetypes
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final, NamedTuple

from aiohttp import hdrs, web
from aiohttp.typedefs import PathLike
from yarl import URL

from .negotiation import parse_accept

CODINGS: Final = {"br": ".br", "gzip": ".gz"}
"""Content codings by the suffix of the compressed sibling, the better one first (RFC 9110, 8.4.1)."""

RECHECK: Final = 1.0
"""Seconds for which a page takes a file to be as it was: asking costs more than making the URL."""

_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_WITH_CHARSET: Final = ("text/", "application/javascript", "application/json")


class _Version(NamedTuple):
    """What is remembered of a file until its signature changes."""

    path: Path
    signature: tuple[int, int, int]
    """Modification time in ns, size in bytes, inode."""
    digest: str
    """SHA-256 of the contents, as ``?v=`` has it."""
    url: str
    integrity: str
    """The same hash as Subresource Integrity writes it."""


class _File(web.FileResponse):
    """A file, or its compressed sibling where that is up to date and the client takes it.

    aiohttp would also send a sibling that is older than the file, or one refused by ``gzip;q=0``.
    """

    def _get_file_path_stat_encoding(
        self, accept_encoding: str
    ) -> tuple[Path | None, os.stat_result, str | None]:
        info = self._path.stat()
        accepted = parse_accept(accept_encoding)
        for coding, suffix in CODINGS.items():
            if accepted.get(coding, accepted.get("*", 0)) > 0:
                sibling = Path(f"{self._path}{suffix}")
                with suppress(OSError):
                    found = sibling.lstat()
                    if S_ISREG(found.st_mode) and found.st_mtime_ns >= info.st_mtime_ns:
                        return sibling, found, coding
        return self._path if S_ISREG(info.st_mode) else None, info, None


class StaticFiles(web.StaticResource):
    """The files of a directory; no listing, and no way out of it by ``..`` or by a symbolic link."""

    def __init__(self, prefix: str, directory: PathLike, *, name: str) -> None:
        """Serve ``directory`` below ``prefix``. Raises ValueError when it is no directory."""
        super().__init__(prefix, directory, name=name, append_version=True)
        self._versions: dict[str, _Version] = {}
        self._looked_up: dict[str, tuple[float, _Version | None]] = {}

    def url_for(  # type: ignore[override]  # as aiohttp's own
        self, *, filename: PathLike, append_version: bool | None = None
    ) -> URL:
        """Return a file's URL, with ``?v=`` and its hash if the file is there (as aiohttp does)."""
        name = os.fspath(filename).lstrip("/")
        if append_version is not False and (version := self._version(name)) is not None:
            return URL(version.url, encoded=True)
        return super().url_for(filename=name, append_version=False)

    def versioned_url(self, filename: str) -> str:
        """Return what ``url_for`` does, as text, without reading a file that is known."""
        version = self._look_up(filename)
        return version.url if version else str(self.url_for(filename=filename))

    def integrity(self, filename: str) -> str:
        """Return a file's hash as Subresource Integrity writes it. Raises FileNotFoundError."""
        version = self._look_up(filename)
        if version is None:
            raise FileNotFoundError(f"no static file {filename}")
        return version.integrity

    def _look_up(self, filename: str) -> _Version | None:
        """Return what ``_version`` does, or did less than RECHECK ago."""
        now = time.monotonic()
        when, version = self._looked_up.get(filename, (-RECHECK, None))
        if now - when >= RECHECK:
            version = self._version(filename)
            self._looked_up[filename] = now, version
        return version

    def _version(self, filename: str) -> _Version | None:
        """Return what is known of a file, having read it if it is new or changed; None without one."""
        version = self._versions.get(filename)
        path = version.path if version else self._directory / filename
        try:
            info = path.stat()
            signature = (info.st_mtime_ns, info.st_size, info.st_ino)
            if version is None or version.signature != signature:
                sha256 = hashlib.sha256(self._find(filename).read_bytes()).digest()
                digest = base64.urlsafe_b64encode(sha256).decode()
                url = super().url_for(filename=filename, append_version=False)
                version = self._versions[filename] = _Version(
                    path,
                    signature,
                    digest,
                    str(url.with_query({self.VERSION_KEY: digest})),
                    f"sha256-{base64.b64encode(sha256).decode()}",
                )
        except (OSError, ValueError):
            return None
        return version

    def _find(self, filename: str) -> Path:
        """Return the path of a file. Raises OSError or ValueError if it is none of the directory's."""
        path = (self._directory / filename).resolve(strict=True)
        if not path.is_relative_to(self._directory) or not path.is_file():
            raise FileNotFoundError(filename)
        return path

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        filename = request.match_info["filename"]
        return await loop.run_in_executor(None, self._open, filename, request.query)

    def _open(self, filename: str, query: Mapping[str, str]) -> web.FileResponse:
        """Find the file and decide on its headers; blocks, so it runs in a thread."""
        try:
            path = self._find(filename)
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle, before 3.13
            raise web.HTTPNotFound from None
        kind, coding = mimetypes.guess_type(path.name)
        if kind is None or coding is not None:
            kind = "application/octet-stream"
        elif kind.startswith(_WITH_CHARSET):
            kind += "; charset=utf-8"
        asked = query.get(self.VERSION_KEY)
        version = self._version(path.relative_to(self._directory).as_posix()) if asked else None
        fresh = version is not None and version.digest == asked
        return _File(
            path,
            headers={
                hdrs.CONTENT_TYPE: kind,
                hdrs.CACHE_CONTROL: _IMMUTABLE if fresh else "no-cache",
                hdrs.VARY: hdrs.ACCEPT_ENCODING,
            },
        )


STATIC: Final = web.AppKey("STATIC", StaticFiles)


def setup(app: web.Application, directory: PathLike) -> None:
    """Serve the static files below ``/static``, as the route ``static``."""
    app[STATIC] = StaticFiles("/static", directory, name="static")
    app.router.register_resource(app[STATIC])
