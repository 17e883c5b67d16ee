"""Static files with versioned URLs, which browsers may cache forever.

The resource is our own, because aiohttp's opens and hashes a file each time a page links to it.
"""

import asyncio
import base64
import errno
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
from aiohttp.typedefs import PathLike
from yarl import URL

from .files import is_missing, send_file
from .negotiation import parse_accept

CODINGS: Final = {"br": (".br", brotli.decompress), "gzip": (".gz", gzip.decompress)}
"""Content codings (RFC 9110, 8.4.1), best first: suffix of the compressed file, decompressor."""

RECHECK: Final = 1.0
"""Seconds before a file is checked for changes again: a check costs more than building the URL."""

VERSION: Final = "v"
"""Name of the URL parameter that holds the version."""

_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_WITH_CHARSET: Final = ("text/", "application/javascript", "application/json")


_Signature = tuple[int, int, int]
"""Modification time in ns, size in bytes, inode: one of them changes when a file does."""


def _signature(info: os.stat_result) -> _Signature:
    return info.st_mtime_ns, info.st_size, info.st_ino


class _Version(NamedTuple):
    """Facts about a file, which are cached until its signature changes."""

    path: Path
    signature: _Signature
    digest: str
    """SHA-256 of the contents, as in ``?v=``."""
    url: str
    integrity: str
    """The same hash in the format of Subresource Integrity."""


class StaticFiles(web.DynamicResource):
    """Files of a directory: no listings, and no access to other files by ``..`` or symlinks."""

    def __init__(self, prefix: str, directory: PathLike, *, name: str) -> None:
        """Serve ``directory`` below ``prefix``. Raises OSError if it does not exist."""
        super().__init__(f"{prefix}/{{filename:.*}}", name=name)
        for method in (hdrs.METH_GET, hdrs.METH_HEAD):
            self.add_route(method, self._handle)
        self._root = Path(directory).resolve(strict=True)
        self._versions: dict[str, _Version] = {}
        self._looked_up: dict[str, tuple[float, _Version | None]] = {}
        self._siblings: dict[Path, tuple[_Signature, str, bool]] = {}

    def url_for(  # type: ignore[override]  # as aiohttp's resource for static files
        self, *, filename: PathLike, append_version: bool = True
    ) -> URL:
        """Return the URL of a file, with ``?v=`` and its hash if the file exists.

        Raises OSError if the file cannot be read.
        """
        name = os.fspath(filename).lstrip("/")
        if append_version and (version := self._version(name)) is not None:
            return URL(version.url, encoded=True)
        return super().url_for(filename=name)

    def versioned_url(self, filename: str) -> str:
        """Return the result of ``url_for`` as a string, without reading a known file again."""
        version = self._look_up(filename)
        return version.url if version else str(self.url_for(filename=filename))

    def integrity(self, filename: str) -> str:
        """Return a file's hash in the format of Subresource Integrity; empty if it does not exist.

        Raises OSError if the file cannot be read.
        """
        version = self._look_up(filename)
        return version.integrity if version else ""

    def _look_up(self, filename: str) -> _Version | None:
        """Return the result of ``_version``, or one that is less than RECHECK old."""
        now = time.monotonic()
        when, version = self._looked_up.get(filename, (-RECHECK, None))
        if now - when >= RECHECK:
            version = self._version(filename)
            self._looked_up[filename] = now, version
        return version

    def _version(self, filename: str) -> _Version | None:
        """Return the facts about a file, or None if it is missing. Read it if it is new or changed.

        Raises OSError if the file cannot be read.
        """
        try:
            version = self._versions.get(filename)
            path = version.path if version else self._root / filename
            signature = _signature(path.stat())
            if version is None or version.signature != signature:
                sha256 = hashlib.sha256(self._find(filename).read_bytes()).digest()
                digest = base64.urlsafe_b64encode(sha256).decode()
                url = super().url_for(filename=filename)
                version = self._versions[filename] = _Version(
                    path,
                    signature,
                    digest,
                    str(url.with_query({VERSION: digest})),
                    f"sha256-{base64.b64encode(sha256).decode()}",
                )
        except (OSError, ValueError) as error:
            if is_missing(error):
                return None
            raise
        return version

    def _find(self, filename: str) -> Path:
        """Return the path of a file. Raises OSError or ValueError if it is not in the directory."""
        path = Path(os.path.realpath(self._root / filename, strict=True))
        if not path.is_relative_to(self._root) or not S_ISREG(path.stat().st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), filename)
        return path

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        return await self.respond(request, request.match_info["filename"])

    async def respond(
        self, request: web.Request, filename: str, *, cache: str = "no-cache"
    ) -> web.StreamResponse:
        """Send a file, with ``cache`` as its Cache-Control unless the URL contains its version.

        Raises the errors of ``files.send_file``, and web.HTTPNotFound if the file is not in the
        directory.
        """
        path, headers = await asyncio.to_thread(self._choose, request, filename, cache)
        return await send_file(request, path, headers)

    def _choose(
        self, request: web.Request, filename: str, cache: str
    ) -> tuple[Path, dict[str, str]]:
        """Return the path of the file, or of its compressed sibling, and the response headers."""
        try:
            path = self._find(filename)
        except (OSError, ValueError) as error:
            if is_missing(error):
                raise web.HTTPNotFound from None
            raise
        version = self._version(path.relative_to(self._root).as_posix())
        if version is None:
            raise web.HTTPNotFound
        kind, packed = mimetypes.guess_type(path.name)
        if kind is None or packed is not None:
            kind = "application/octet-stream"
        elif kind.startswith(_WITH_CHARSET):
            kind += "; charset=utf-8"
        if request.query.get(VERSION) == version.digest:
            cache = _IMMUTABLE
        headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: kind,
            hdrs.CACHE_CONTROL: cache,
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }
        accepted = parse_accept(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        for coding, (suffix, unpack) in CODINGS.items():
            if accepted.get(coding, accepted.get("*", 0)) > 0:
                sibling = Path(f"{path}{suffix}")
                if self._packs(sibling, version, unpack):
                    return sibling, {**headers, hdrs.CONTENT_ENCODING: coding}
        return path, headers

    def _packs(self, sibling: Path, version: _Version, unpack: Callable[[bytes], bytes]) -> bool:
        """Return True if a sibling is the compressed file.

        It is decompressed once to verify this, because modification times are unreliable. Raises
        OSError if it exists and cannot be read.
        """
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
        except (gzip.BadGzipFile, EOFError, zlib.error, brotli.error):  # not compressed at all
            return False
        except OSError as error:
            if is_missing(error):
                return False
            raise


STATIC: Final = web.AppKey("STATIC", StaticFiles)


def setup(app: web.Application, directory: PathLike) -> None:
    """Serve the static files below ``/static``, with the route name ``static``."""
    app[STATIC] = StaticFiles("/static", directory, name="static")
    app.router.register_resource(app[STATIC])
