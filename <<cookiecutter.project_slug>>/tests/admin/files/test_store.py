import fcntl
import json
import os
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin.files.store import Store, Upload

from ...helpers import no_file_descriptors


# % endfilter
@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "a/b")
    store.open()
    return store


def uploaded(store: Store, name: str = "a.txt", content: bytes = b"content") -> str:
    upload = Upload(store)
    upload.open()
    upload.write(content)
    return upload.keep(name, "ada").id


def test_kept_file_is_found_and_listed_until_it_is_deleted(store: Store) -> None:
    first, second = uploaded(store, "1"), uploaded(store, "2")
    assert [record.id for record in store.page(10)] == [second, first]
    assert [record.id for record in store.page(10, before=second)] == [first]
    assert store.find(first).name == "1"
    assert store.content(first).read_bytes() == b"content"
    store.delete(first)
    store.delete(first)
    with pytest.raises(LookupError):
        store.find(first)


def test_folders_are_not_accessible_to_others(store: Store) -> None:
    folder = store.files / uploaded(store)
    for path in (store.files, store.incoming, folder):
        assert path.stat().st_mode & 0o007 == 0


def test_open_removes_abandoned_uploads_only(store: Store) -> None:
    under_way = Upload(store)
    under_way.open()
    left = store.incoming / ("0" * 32)
    left.mkdir()
    (left / "content").write_bytes(b"half")
    (store.incoming / "stray").write_text("not an upload")
    Store(store.files.parent).open()  # as another worker does
    assert not left.exists()
    under_way.write(b"whole")
    assert store.find(under_way.keep("a", "ada").id).size == 5


@pytest.mark.parametrize(("module", "step"), [(os, "open"), (fcntl, "flock")])
def test_upload_survives_a_worker_that_starts_before_it_is_locked(
    store: Store, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    right = getattr(module, step)

    def start_before(*arguments: object) -> Any:
        monkeypatch.setattr(module, step, right)
        Store(store.files.parent).open()
        return right(*arguments)

    monkeypatch.setattr(module, step, start_before)
    assert store.find(uploaded(store)).size == 7


def test_uploads_survive_workers_that_start_at_any_moment(store: Store) -> None:
    stop = threading.Event()

    def open_repeatedly() -> None:
        while not stop.is_set():
            Store(store.files.parent).open()

    thread = threading.Thread(target=open_repeatedly)
    thread.start()
    try:
        ids = [uploaded(store) for _ in range(30)]
    finally:
        stop.set()
        thread.join()
    assert [store.find(file_id).size for file_id in ids] == [7] * 30


def test_closed_upload_leaves_nothing(store: Store) -> None:
    upload = Upload(store)
    upload.open()
    upload.write(b"x")
    upload.close()
    upload.close()
    late = Upload(store)
    late.close()
    late.open()  # called late, by a thread that had to wait
    assert not list(store.incoming.iterdir())
    assert store.page(10) == []


@pytest.mark.parametrize("record", ["", "{", "[]", '{"id": 1}', "null", None])
def test_broken_record_is_left_out(store: Store, record: str | None) -> None:
    good, bad = uploaded(store), uploaded(store)
    path = store.files / bad / "record.json"
    if record is None:
        path.unlink()
    else:
        path.write_text(record)
    (store.files / "stray").write_text("not an upload")
    assert [known.id for known in store.page(10)] == [good]
    with pytest.raises(LookupError):
        store.find(bad)


def test_file_that_cannot_be_read_is_neither_missing_nor_left_out(store: Store) -> None:
    file_id = uploaded(store)
    with no_file_descriptors():
        with pytest.raises(OSError, match="Too many open files"):
            store.find(file_id)
        with pytest.raises(OSError, match="Too many open files"):
            store.page(10)
    assert store.find(file_id) in store.page(10)


def test_upload_without_a_file_descriptor_leaves_nothing(store: Store) -> None:
    under_way, refused = Upload(store), Upload(store)
    under_way.open()
    with no_file_descriptors():
        with pytest.raises(OSError, match="Too many open files"):
            refused.open()
        refused.close()
        under_way.close()
    assert not list(store.incoming.iterdir())


def test_file_is_deleted_without_a_file_descriptor(store: Store) -> None:
    file_id = uploaded(store)
    with no_file_descriptors():
        store.delete(file_id)
    assert not list(store.files.iterdir())
    assert not list(store.incoming.iterdir())


def test_record_is_json(store: Store) -> None:
    file_id = uploaded(store)
    record = json.loads((store.files / file_id / "record.json").read_text())
    assert {key: record[key] for key in ("id", "name", "size", "account")} == {
        "id": file_id,
        "name": "a.txt",
        "size": 7,
        "account": "ada",
    }
