import json
import threading
from pathlib import Path

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin.files.store import Store, Upload


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


def test_what_is_kept_is_found_and_listed(store: Store) -> None:
    first, second = uploaded(store, "1"), uploaded(store, "2")
    assert [record.id for record in store.page(10)] == [second, first]
    assert [record.id for record in store.page(10, before=second)] == [first]
    assert store.find(first).name == "1"
    assert store.content(first).read_bytes() == b"content"
    store.delete(first)
    store.delete(first)
    with pytest.raises(LookupError):
        store.find(first)


def test_others_may_not_look_in(store: Store) -> None:
    folder = store.files / uploaded(store)
    for path in (store.files, store.incoming, folder):
        assert path.stat().st_mode & 0o007 == 0


def test_starting_removes_what_nobody_works_on_any_more(store: Store) -> None:
    under_way = Upload(store)
    under_way.open()
    left = store.incoming / ("0" * 32)
    left.mkdir()
    (left / "content").write_bytes(b"half")
    (store.incoming / "stray").write_text("put there by hand")
    Store(store.files.parent).open()  # another worker
    assert not left.exists()
    under_way.write(b"whole")
    assert store.find(under_way.keep("a", "ada").id).size == 5


def test_uploads_and_starts_do_not_disturb_each_other(store: Store) -> None:
    stop = threading.Event()

    def start_again_and_again() -> None:
        while not stop.is_set():
            Store(store.files.parent).open()

    thread = threading.Thread(target=start_again_and_again)
    thread.start()
    try:
        ids = [uploaded(store) for _ in range(100)]
    finally:
        stop.set()
        thread.join()
    assert [store.find(file_id).size for file_id in ids] == [7] * 100


def test_what_was_given_up_leaves_nothing(store: Store) -> None:
    upload = Upload(store)
    upload.open()
    upload.write(b"x")
    upload.close()
    upload.close()
    late = Upload(store)
    late.close()
    late.open()  # by a thread that had to wait
    assert not list(store.incoming.iterdir())
    assert store.page(10) == []


@pytest.mark.parametrize("record", ["", "{", "[]", '{"id": 1}', "null", None])
def test_a_record_that_is_broken_is_left_out(store: Store, record: str | None) -> None:
    good, bad = uploaded(store), uploaded(store)
    path = store.files / bad / "record.json"
    if record is None:
        path.unlink()
    else:
        path.write_text(record)
    (store.files / "stray").write_text("put there by hand")
    assert [known.id for known in store.page(10)] == [good]
    with pytest.raises(LookupError):
        store.find(bad)


def test_the_record_is_plain(store: Store) -> None:
    file_id = uploaded(store)
    record = json.loads((store.files / file_id / "record.json").read_text())
    assert {key: record[key] for key in ("id", "name", "size", "account")} == {
        "id": file_id,
        "name": "a.txt",
        "size": 7,
        "account": "ada",
    }
