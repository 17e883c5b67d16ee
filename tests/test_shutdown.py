"""Servers that stop, and workers that are replaced under load: no request fails."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
from conftest import (
    PRODUCTION,
    TIMEOUT,
    Project,
    Server,
    answers_at,
    free_port,
    lines,
    started,
    wait_for,
)
from load import load
from needs import needs
from nginx import nginx
from workers import run, workers, write_extra

SERVERS = """
server {{
  listen 127.0.0.1:{port} backlog=1024;
  location / {{
    proxy_pass http://app;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host localhost;
    proxy_next_upstream off;
  }}
}}
"""
UPSTREAM = "keepalive 16; keepalive_timeout 300ms;"
"""Much shorter than DRAIN_TIMEOUT, so that nginx never writes to a connection that is closing."""
CLASSES = ["aiohttp.GunicornWebWorker", "aiohttp.GunicornUVLoopWebWorker"]


@needs("nginx")
@pytest.mark.parametrize("worker_class", CLASSES)
def test_no_request_is_lost_when_workers_are_replaced(
    worker_class: str, installed: Project, tmp_path: Path
) -> None:
    through = free_port()
    with (
        workers(installed, tmp_path, "--worker-class", worker_class) as site,
        nginx(tmp_path, through, SERVERS.format(port=through), UPSTREAM) as proxy,
    ):
        with load([site.port, through], "/about", "/echo") as clients:
            for _ in range(3):
                site.reload()
            for _ in range(3):
                site.replace_one()
            clients.wait_for_all(8, 50)
        assert clients.failures == []
        assert "upstream" not in proxy.output()
        assert not [line for line in lines(site.server) if line["level"] in {"error", "critical"}]


@needs("nginx")
@pytest.mark.parametrize("worker_class", CLASSES)
def test_no_request_is_lost_when_workers_reach_max_requests(
    worker_class: str, installed: Project, tmp_path: Path
) -> None:
    through = free_port()
    options = ["--worker-class", worker_class, "--max-requests", "200"]
    with (
        workers(installed, tmp_path, *options) as site,
        nginx(tmp_path, through, SERVERS.format(port=through), UPSTREAM) as proxy,
    ):
        seen = site.pids()

        def replaced() -> bool:
            seen.update(site.pids())
            return len(seen) >= 6

        with load([site.port, through], "/about", "/echo") as clients:
            wait_for(replaced, "four more workers")
            clients.wait_for_all(8, 1)
        assert clients.failures == []
        assert "upstream" not in proxy.output()


def alone(
    project: Project, folder: Path, port: int, **environment: str
) -> AbstractContextManager[Server]:
    """Serve the project and EXTRA without gunicorn."""
    write_extra(project, folder)
    run = f"import extra; from {project.package}.__main__ import main; main()"
    command = [str(project.bin / "python"), "-c", run, "--port", str(port)]
    variables = PRODUCTION | {"PYTHONPATH": str(folder)} | environment
    ready = answers_at(f"http://127.0.0.1:{port}/livez")
    return started(command, folder / "log", ready, project.path, **variables)


def logged(server: Server, event: str, count: int = 1) -> Callable[[], bool]:
    """Return a condition: that ``count`` log lines begin with the event."""
    return lambda: sum(str(line["event"]).startswith(event) for line in lines(server)) >= count


def catches(pid: int, number: signal.Signals) -> bool:
    """Return True if the process has a handler for the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> number - 1 & 1)


async def begin_work(port: int, until: Path) -> None:
    """Start four background tasks that run until the file exists."""
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/begin?until={until}"
        answers = await asyncio.gather(*(session.post(url) for _ in range(4)))
    assert [answer.status for answer in answers] == [200] * 4


def test_work_in_the_background_is_finished_when_gunicorn_gets_ctrl_c(
    installed: Project, tmp_path: Path
) -> None:
    """The workers get the signal twice: from the terminal and from the master."""
    release = tmp_path / "release"
    with workers(installed, tmp_path, GRACEFUL_TIMEOUT=f"{TIMEOUT:.0f}") as site:
        run(begin_work(site.port, release))
        wait_for(logged(site.server, "held", 4), "the work to begin")
        os.killpg(site.master, signal.SIGINT)
        wait_for(logged(site.server, "draining", 2), "the workers to stop")
        release.touch()
        assert site.server.process.wait(TIMEOUT) == 0
        assert logged(site.server, "finished", 4)()


def test_work_in_the_background_is_finished_despite_a_second_signal(
    installed: Project, tmp_path: Path
) -> None:
    port, release = free_port(), tmp_path / "release"
    with alone(installed, tmp_path, port, GRACEFUL_TIMEOUT=f"{TIMEOUT:.0f}") as server:
        run(begin_work(port, release))
        wait_for(logged(server, "held", 4), "the work to begin")
        os.kill(server.process.pid, signal.SIGTERM)
        wait_for(logged(server, "draining"), "the server to stop")
        os.kill(server.process.pid, signal.SIGTERM)
        # The server handles the second signal; a third one would kill it.
        wait_for(lambda: not catches(server.process.pid, signal.SIGTERM), "the second signal")
        release.touch()
        assert server.process.wait(TIMEOUT) == 0
        assert logged(server, "finished", 4)()


SOCKETS, HELD = 200, 20


async def stop_while_busy(
    port: int, server: Server, release: Path
) -> tuple[Counter[object], Counter[object]]:
    """Open WebSockets and send requests that wait; stop the server; return the results of both."""
    base = f"http://127.0.0.1:{port}"
    opened = asyncio.Semaphore(0)

    async def listen(session: aiohttp.ClientSession) -> object:
        async with session.ws_connect(f"{base}/live", protocols=("live.v1",)) as ws:
            opened.release()
            await ws.receive()
            return ws.close_code

    async def ask(session: aiohttp.ClientSession) -> object:
        async with session.get(f"{base}/held?until={release}") as response:
            return response.status, await response.text(), response.headers["Connection"]

    connector = aiohttp.TCPConnector(limit=0)
    async with (
        asyncio.timeout(TIMEOUT),
        aiohttp.ClientSession(connector=connector, headers={"Origin": base}) as session,
    ):
        sockets = [asyncio.create_task(listen(session)) for _ in range(SOCKETS)]
        for _ in sockets:
            await opened.acquire()
        answers = [asyncio.create_task(ask(session)) for _ in range(HELD)]
        await asyncio.to_thread(wait_for, logged(server, "held", HELD), "the requests to be held")
        os.kill(server.process.pid, signal.SIGTERM)
        codes = Counter(await asyncio.gather(*sockets))
        await asyncio.to_thread(release.touch)
        return codes, Counter(await asyncio.gather(*answers))


@pytest.fixture(params=["gunicorn", "standalone"])
def crowded(
    request: pytest.FixtureRequest, installed: Project, tmp_path: Path
) -> Iterator[tuple[int, Server]]:
    """Run a server for many WebSockets; yield its port and the server."""
    variables = {"MAX_WEBSOCKETS": str(SOCKETS), "GRACEFUL_TIMEOUT": f"{TIMEOUT:.0f}"}
    with ExitStack() as stack:
        if request.param == "gunicorn":
            site = stack.enter_context(workers(installed, tmp_path, **variables))
            yield site.port, site.server
        else:
            port = free_port()
            yield port, stack.enter_context(alone(installed, tmp_path, port, **variables))


def test_shutdown_closes_websockets_with_1001_and_finishes_requests(
    crowded: tuple[int, Server], tmp_path: Path
) -> None:
    port, server = crowded
    codes, answers = run(stop_while_busy(port, server, tmp_path / "release"))
    assert codes == {1001: SOCKETS}
    assert answers == {(200, "released", "close"): HELD}
    assert server.process.wait(TIMEOUT) == 0
    log = lines(server)
    assert not [line for line in log if line["level"] in {"error", "critical"}]
    (*_, last) = [line for line in log if line.get("path") == "/live"]
    assert last["status"] == 101


async def stop_during_a_request(port: int, server: Server, signals: int) -> int | None:
    """Start an endless request, send the signals; return the status, or None if it is cut off."""
    pid = server.process.pid

    async def ask(session: aiohttp.ClientSession) -> int | None:
        try:
            async with session.get(f"http://127.0.0.1:{port}/held?until=/nowhere") as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return None

    async with asyncio.timeout(TIMEOUT), aiohttp.ClientSession() as session:
        answer = asyncio.create_task(ask(session))
        await asyncio.to_thread(wait_for, logged(server, "held"), "the request to be held")
        os.kill(pid, signal.SIGTERM)
        if signals > 1:
            await asyncio.to_thread(wait_for, logged(server, "draining"), "the server to stop")
            os.kill(pid, signal.SIGTERM)
        return await answer


@pytest.mark.parametrize(("signals", "timeout"), [(2, 10 * TIMEOUT), (1, 0.5)])
def test_endless_request_is_cut_off_by_a_second_signal_or_graceful_timeout(
    signals: int, timeout: float, installed: Project, tmp_path: Path
) -> None:
    port = free_port()
    with alone(installed, tmp_path, port, GRACEFUL_TIMEOUT=str(timeout)) as server:
        assert run(stop_during_a_request(port, server, signals)) is None
        assert server.process.wait(TIMEOUT) == 0
    events = [line["event"] for line in lines(server)]
    assert "1 connections are cut off" in events
    assert "cancelled: GET /held?until=/nowhere" in events


async def check_health_while_stopping(port: int, server: Server) -> list[tuple[int, str, str]]:
    """Stop the server, and check its health over connections that were open before."""
    base = f"http://127.0.0.1:{port}"
    answers = []
    async with aiohttp.ClientSession() as first, aiohttp.ClientSession() as second:
        sessions = {"/readyz": first, "/livez": second}
        for path, session in sessions.items():
            async with session.get(base + path) as response:
                assert response.status == 200
                assert "Connection" not in response.headers
        os.kill(server.process.pid, signal.SIGTERM)
        await asyncio.to_thread(wait_for, logged(server, "draining"), "the server to stop")
        for path, session in sessions.items():
            async with session.get(base + path) as response:
                status = (await response.json())["status"]
                answers.append((response.status, status, response.headers["Connection"]))
    return answers


def test_draining_server_is_alive_but_not_ready(installed: Project, tmp_path: Path) -> None:
    port = free_port()
    timeouts = {"DRAIN_TIMEOUT": f"{TIMEOUT:.0f}", "GRACEFUL_TIMEOUT": f"{TIMEOUT:.0f}"}
    with alone(installed, tmp_path, port, **timeouts) as server:
        answers = run(check_health_while_stopping(port, server))
        assert server.process.wait(TIMEOUT) == 0
    assert answers == [(503, "draining", "close"), (200, "alive", "close")]


def heartbeat(worker: int) -> float:
    """Return the time of the worker's last heartbeat to gunicorn's master."""
    for file in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            if file.readlink().name.startswith("wgunicorn-"):
                return file.stat().st_mtime
    raise AssertionError(f"{worker} is not a worker of gunicorn")


def test_draining_worker_goes_on_telling_the_master_that_it_is_alive(
    installed: Project, tmp_path: Path
) -> None:
    """Otherwise gunicorn kills the worker after ``--timeout`` seconds."""
    release = tmp_path / "release"

    async def ask() -> str:
        async with (
            asyncio.timeout(TIMEOUT),
            aiohttp.ClientSession() as session,
            session.get(f"{site.base}/held?until={release}") as response,
        ):
            return await response.text()

    beats = set()

    def beaten() -> bool:
        beats.add(heartbeat(worker))
        return len(beats) >= 4

    async def reload_during_the_request() -> str:
        answer = asyncio.create_task(ask())
        await asyncio.to_thread(wait_for, logged(site.server, "held"), "the request to be held")
        os.kill(site.master, signal.SIGHUP)
        await asyncio.to_thread(wait_for, logged(site.server, "draining"), "the worker to drain")
        await asyncio.to_thread(wait_for, beaten, "three heartbeats")
        await asyncio.to_thread(release.touch)
        return await answer

    variables = {"GRACEFUL_TIMEOUT": f"{TIMEOUT:.0f}", "WEB_CONCURRENCY": "1"}
    with workers(installed, tmp_path, **variables) as site:
        (worker,) = site.pids()
        assert run(reload_during_the_request()) == "released"
