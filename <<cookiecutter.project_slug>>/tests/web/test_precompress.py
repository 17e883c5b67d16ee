import gzip
import os
from pathlib import Path

import brotli

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web.precompress import precompress

# % endfilter
CSS = b"body { color: rebeccapurple }\n" * 50


def test_precompress_writes_copies_that_are_smaller_and_removes_stale_ones(tmp_path: Path) -> None:
    directory = tmp_path / "static"
    directory.mkdir()
    (directory / "site.css").write_bytes(CSS)
    (directory / "picture.png").write_bytes(bytes(1000))
    (directory / "noise.bin").write_bytes(os.urandom(1000))
    stale = directory / "noise.bin.gz"
    stale.write_bytes(b"outdated")
    for _ in range(2):  # the second time, over its own output
        assert [path.name for path in precompress(directory)] == ["site.css.br", "site.css.gz"]
    assert brotli.decompress((directory / "site.css.br").read_bytes()) == CSS
    assert gzip.decompress((directory / "site.css.gz").read_bytes()) == CSS
    assert not stale.exists()
