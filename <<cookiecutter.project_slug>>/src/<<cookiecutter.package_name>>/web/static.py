"""Static files under versioned URLs, which browsers may keep for good.

A resource of our own (row W17), because aiohttp's opens and hashes a file each time a page names it.
"""

import asyncio
import base64
import gzip
import hashlib
import mimetypes
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Final, NamedTuple

import brotli
from aiohttp import hdrs, web
from aiohttp.typedefs import LooseHeaders, PathLike
from yarl import URL

from .negotiation import parse_accept

CODINGS: Final = {"br": (".br", brotli.decompress), "gzip": (".gz", gzip.decompress)}
"""Content codings (RFC 9110, 8.4.1), the better one first: suffix of the sibling, how to unpack it."""

RECHECK: Final = 1.0
"""Seconds for which a page takes a file to be as it was: asking costs more than making the URL."""

_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_WITH_CHARSET: Final = ("text/", "application/javascript", "application/json")


_Signature = tuple[int, int, int]
"""Modification time in ns, size in bytes, inode: what changes when a file does."""


def _signature(info: os.stat_result) -> _Signature:
    return info.st_mtime_ns, info.st_size, info.st_ino


class _Version(NamedTuple):
    """What is remembered of a file until its signature changes."""

    path: Path
    signature: _Signature
    digest: str
    """SHA-256 of the contents, as ``?v=`` has it."""
    url: str
    integrity: str
    """The same hash as Subresource Integrity writes it."""


class _File(web.FileResponse):
    """A file in the form that was chosen for it.

    aiohttp's own choice takes any sibling there is, outdated or refused by ``gzip;q=0``.
    """

    def __init__(self, path: Path, sent: Path, coding: str | None, headers: LooseHeaders) -> None:
        super().__init__(path, headers=headers)
        self._sent = sent
        self._coding = coding

    def _get_file_path_stat_encoding(
        self, accept_encoding: str
    ) -> tuple[Path, os.stat_result, str | None]:
        return self._sent, self._sent.stat(), self._coding


class StaticFiles(web.StaticResource):
    """The files of a directory; no listing, and no way out of it by ``..`` or by a symbolic link."""

    def __init__(self, prefix: str, directory: PathLike, *, name: str) -> None:
        """Serve ``directory`` below ``prefix``. Raises ValueError when it is no directory."""
        super().__init__(prefix, directory, name=name, append_version=True)
        self._versions: dict[str, _Version] = {}
        self._looked_up: dict[str, tuple[float, _Version | None]] = {}
        self._siblings: dict[Path, tuple[_Signature, str, bool]] = {}

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
        """Return a file's hash as Subresource Integrity writes it; empty if there is no such file."""
        version = self._look_up(filename)
        return version.integrity if version else ""

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
            signature = _signature(path.stat())
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
        return await self.respond(request, request.match_info["filename"])

    async def respond(
        self, request: web.Request, filename: str, *, cache: str = "no-cache"
    ) -> web.FileResponse:
        """Return a file, with ``cache`` as its Cache-Control unless the URL has its version.

        Raises web.HTTPNotFound if it is no file of the directory.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._open, request, filename, cache)

    def _open(self, request: web.Request, filename: str, cache: str) -> web.FileResponse:
        """Find the file and decide on its form and headers; blocks, so it runs in a thread."""
        try:
            path = self._find(filename)
            version = self._version(path.relative_to(self._directory).as_posix())
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle, before 3.13
            version = None
        if version is None:
            raise web.HTTPNotFound
        kind, packed = mimetypes.guess_type(path.name)
        if kind is None or packed is not None:
            kind = "application/octet-stream"
        elif kind.startswith(_WITH_CHARSET):
            kind += "; charset=utf-8"
        if request.query.get(self.VERSION_KEY) == version.digest:
            cache = _IMMUTABLE
        headers = {
            hdrs.CONTENT_TYPE: kind,
            hdrs.CACHE_CONTROL: cache,
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }
        accepted = parse_accept(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        for coding, (suffix, unpack) in CODINGS.items():
            sibling = Path(f"{path}{suffix}")
            if accepted.get(coding, accepted.get("*", 0)) > 0 and self._packs(
                sibling, version, unpack
            ):
                return _File(path, sibling, coding, headers)
        return _File(path, path, None, headers)

    def _packs(self, sibling: Path, version: _Version, unpack: Callable[[bytes], bytes]) -> bool:
        """Tell whether a sibling is the file compressed; it is unpacked once to see, as dates lie."""
        try:
            info = sibling.lstat()
            if not S_ISREG(info.st_mode):
                return False
            state = (_signature(info), version.digest)
            if self._siblings.get(sibling, ())[:2] != state:
                digest = hashlib.sha256(unpack(sibling.read_bytes())).digest()
                same = base64.urlsafe_b64encode(digest).decode() == version.digest
                self._siblings[sibling] = (*state, same)
            return self._siblings[sibling][2]
        except (OSError, EOFError, zlib.error, brotli.error):  # none, or not compressed at all
            return False


STATIC: Final = web.AppKey("STATIC", StaticFiles)


def setup(app: web.Application, directory: PathLike) -> None:
    """Serve the static files below ``/static``, as the route ``static``."""
    app[STATIC] = StaticFiles("/static", directory, name="static")
    app.router.register_resource(app[STATIC])
