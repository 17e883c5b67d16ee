import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.live import local
from package_name.live.bus import Subscription
from package_name.live.local import LocalBus, default_folder

from ..helpers import TIMEOUT, no_file_descriptors
from .helpers import Join, receive

# % endfilter
ECHO = f"""
import asyncio, pathlib, sys
from {local.__name__} import LocalBus

async def main():
    bus = LocalBus(pathlib.Path(sys.argv[1]))
    await bus.open()
    async with bus.subscribe("there") as messages:
        await bus.publish("back", "ready")
        async for message in messages:
            await bus.publish("back", message)

asyncio.run(main())
"""


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


@asynccontextmanager
async def echo_process(folder: Path, back: Subscription) -> AsyncIterator[Process]:
    """Run a process that publishes every message of "there" on "back"."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ECHO, folder)
    try:
        assert await receive(back, 1) == ["ready"]
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def stop(bus: LocalBus) -> None:
    """Stop reading, like a blocked worker."""
    asyncio.get_running_loop().remove_reader(bus._socket.fileno())


def resume(bus: LocalBus) -> None:
    asyncio.get_running_loop().add_reader(bus._socket.fileno(), bus._receive)


def die(bus: LocalBus) -> None:
    """Close all sockets but keep the file, like a killed worker."""
    bus._leave()
    for sibling in bus._siblings.values():
        sibling.close()


async def test_bus_forgets_a_worker_that_leaves_and_reaches_one_that_joins(
    join: Join, folder: Path
) -> None:
    first = await join()
    await first.publish("channel", "for nobody")
    second = LocalBus(folder)
    await second.open()
    async with second.subscribe("channel") as messages:
        await first.publish("channel", "at once")
        assert await receive(messages, 1) == ["at once"]
    await second.close()
    assert names(folder) == {first._own.name}
    await first.publish("channel", "for nobody")
    assert not first._siblings


async def test_bus_loses_nothing_to_a_stopped_process_and_forgets_a_killed_one(
    join: Join, folder: Path
) -> None:
    """On most systems, the kernel queues ten messages for it, and the sender queues the others."""
    bus = await join()
    async with bus.subscribe("back") as back, echo_process(folder, back) as process:
        process.send_signal(signal.SIGSTOP)
        for number in range(1000):
            await bus.publish("there", number)
        process.send_signal(signal.SIGCONT)
        assert await receive(back, 1000) == list(range(1000))
        process.kill()
        await process.wait()
        await bus.publish("there", "more")
        assert names(folder) == {bus._own.name}
        assert not bus._siblings


async def test_bus_counts_what_it_drops_for_a_worker_that_is_too_far_behind(
    join: Join, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local, "MAX_BEHIND", 1024**2)
    here, there = await join(), await join()
    async with there.subscribe("there") as messages:
        stop(there)
        for number in range(50):
            await here.publish("there", [number, "x" * 60_000])
        (sibling,) = here._siblings.values()
        received = 50 - sibling._dropped
        assert 1024**2 // 60_100 <= received < 50
        (message,) = [each.message for each in caplog.records if each.name == local.__name__]
        assert message.endswith("1 messages dropped so far")
        resume(there)
        numbers = [number for number, _ in await receive(messages, received)]
        assert numbers == list(range(received))
        await here.publish("there", "again")
        assert await receive(messages, 1) == ["again"]
        message = [each.message for each in caplog.records if each.name == local.__name__][-1]
        assert message.endswith(f": {50 - received} messages dropped so far")


@pytest.mark.parametrize("waiting", [1, 600], ids=["nothing queued", "messages queued"])
async def test_bus_removes_the_socket_of_a_worker_that_died_and_reaches_the_others(
    join: Join, folder: Path, waiting: int
) -> None:
    here, there, dead = await join(), await join(), LocalBus(folder)
    await dead.open()
    async with there.subscribe("there") as messages:
        stop(dead)
        for number in range(waiting):
            await here.publish("there", number)
        assert len(names(folder)) == 3
        die(dead)
        async with asyncio.timeout(TIMEOUT):
            while len(names(folder)) > 2:
                await here.publish("there", "more")
        await here.publish("there", "last")
        assert await receive(messages, waiting) == list(range(waiting))
        while (message := (await receive(messages, 1))[0]) != "last":
            assert message == "more"
    assert list(here._siblings) == [there._own.name]


async def test_bus_removes_what_dead_workers_left_and_nothing_else(
    join: Join, folder: Path
) -> None:
    stale = folder / "1-00000000.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(stale))
    (folder / "file").write_text("precious")
    (folder / "folder").mkdir()
    bus = await join()
    await bus.publish("channel", None)
    assert names(folder) == {bus._own.name, "file", "folder"}


async def test_bus_logs_a_worker_that_it_cannot_reach(
    join: Join, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(str(folder / "1-00000000.sock"))
        stream.listen()
        bus = await join()
        async with bus.subscribe("channel") as messages:
            await bus.publish("channel", "here")
            assert await receive(messages, 1) == ["here"]
    assert "worker 1-00000000.sock cannot be reached" in caplog.text


async def test_workers_that_cannot_be_listed_are_logged_and_known_ones_reached(
    join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await join(), await join()
    async with two.subscribe("channel") as messages:
        await one.publish("channel", "first")
        with no_file_descriptors():
            await one.publish("channel", "second")
        assert await receive(messages, 2) == ["first", "second"]
    assert "the other workers cannot be listed: [Errno 24]" in caplog.text


def clean(folder: Path, *, with_folder: bool) -> None:
    for each in folder.iterdir():
        each.unlink()
    if with_folder:
        folder.rmdir()


@pytest.mark.parametrize("lost", ["socket", "folder"])
async def test_check_joins_again_after_a_cleaner_of_temporary_files(
    join: Join, folder: Path, lost: str
) -> None:
    one, two = await join(), await join()
    async with one.subscribe("prices") as messages:
        clean(folder, with_folder=lost == "folder")
        await two.publish("prices", "may be lost")  # not an error
        for bus in (one, two):
            await bus.check()
            await bus.check()  # once is enough
        await two.publish("prices", "again")
        while (await receive(messages, 1)) != ["again"]:
            pass


async def test_open_makes_a_private_folder(folder: Path) -> None:
    bus = LocalBus(folder / "a" / "b")
    await bus.open()
    await bus.close()
    assert (folder / "a" / "b").stat().st_mode & 0o777 == 0o700


def open_to_group(place: Path) -> Path:
    place.mkdir(mode=0o700)
    place.chmod(0o710)
    return place


def link(place: Path) -> Path:
    place.symlink_to(place.parent, target_is_directory=True)
    return place


def file(place: Path) -> Path:
    place.write_text("precious")
    return place


def below_a_file(place: Path) -> Path:
    return file(place) / "bus"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (open_to_group, PermissionError),
        (link, PermissionError),
        (file, FileExistsError),
        (below_a_file, NotADirectoryError),
    ],
)
async def test_open_refuses_a_folder_that_others_could_use(
    folder: Path, make: Callable[[Path], Path], error: type[OSError]
) -> None:
    with pytest.raises(error):
        await LocalBus(make(folder / "place")).open()


async def test_open_refuses_a_folder_of_another_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError):
        await LocalBus(folder).open()


def test_default_folder_is_below_one_that_no_other_user_may_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_folder() == Path("run/sockets/bus")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/service")  # set by systemd
    assert default_folder() == Path("/run/service/bus")
