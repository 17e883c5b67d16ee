"""Workers that come and go under load, and no request is lost."""

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest
from conftest import (
    PRODUCTION,
    Project,
    Server,
    answers_at,
    free_port,
    lines,
    started,
    wait_for,
)
from load import load
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
UPSTREAM = "keepalive 16; keepalive_timeout 1s;"


CLASSES = ["aiohttp.GunicornWebWorker", "aiohttp.GunicornUVLoopWebWorker"]


@pytest.mark.parametrize("worker_class", CLASSES)
def test_no_request_is_lost_when_workers_are_replaced(
    worker_class: str, installed: Project, tmp_path: Path
) -> None:
    through = free_port()
    options = ["--worker-class", worker_class]
    with (
        workers(installed, tmp_path, *options, DRAIN_TIMEOUT="2") as site,
        nginx(tmp_path, through, SERVERS.format(port=through), UPSTREAM) as proxy,
    ):
        with load([site.port, through], "/about", "/echo") as clients:
            for _ in range(5):
                site.hang_up()
            for _ in range(5):
                site.replace_one()
        assert clients.failures == []
        assert len(clients.answers) == 8
        assert min(clients.answers.values()) > 100
        assert "upstream" not in proxy.output()
        assert not [line for line in lines(site.server) if line["level"] in {"error", "critical"}]


@pytest.mark.parametrize("worker_class", CLASSES)
def test_no_request_is_lost_when_workers_end_by_themselves(
    worker_class: str, installed: Project, tmp_path: Path
) -> None:
    through = free_port()
    options = ["--worker-class", worker_class, "--max-requests", "200"]
    with (
        workers(installed, tmp_path, *options, DRAIN_TIMEOUT="2") as site,
        nginx(tmp_path, through, SERVERS.format(port=through), UPSTREAM) as proxy,
    ):
        seen = site.pids()

        def replaced() -> bool:
            seen.update(site.pids())
            return len(seen) >= 8

        with load([site.port, through], "/about", "/echo") as clients:
            wait_for(replaced, "six more workers", 60)
        assert clients.failures == []
        assert len(clients.answers) == 8
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


def test_no_work_that_was_begun_is_lost(installed: Project, tmp_path: Path) -> None:
    """Neither by Ctrl-C, which the workers get twice from gunicorn, nor by a second signal."""

    async def ask(port: int) -> int:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/begin?seconds=2"
            answers = await asyncio.gather(*(session.post(url) for _ in range(4)))
        return sum(answer.status == 200 for answer in answers)

    with workers(installed, tmp_path) as site:
        assert run(ask(site.port)) == 4
        site.server.stop(signal.SIGINT)
        assert site.server.output().count("finished what was begun") == 4
    port = free_port()
    with alone(installed, tmp_path, port, LOG_LEVEL="WARNING") as server:
        assert run(ask(port)) == 4
        for _ in range(2):
            os.kill(server.process.pid, signal.SIGTERM)
            time.sleep(0.5)
        assert server.process.wait(timeout=30) == 0
        assert server.output().count("finished what was begun") == 4


SOCKETS, SLOW = 200, 20


async def last_moments(port: int, stop: int) -> tuple[Counter[object], Counter[object]]:
    """Open WebSockets, ask for slow answers, stop the server; return how these ended."""
    base = f"http://127.0.0.1:{port}"
    opened = asyncio.Semaphore(0)

    async def listen(session: aiohttp.ClientSession) -> object:
        async with session.ws_connect(f"{base}/live", protocols=("live.v1",)) as ws:
            opened.release()
            await ws.receive()
            return ws.close_code

    async def ask(session: aiohttp.ClientSession) -> object:
        async with session.get(f"{base}/slow?seconds=4") as response:
            return response.status, await response.text(), response.headers["Connection"]

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"Origin": base}) as session:
        sockets = [asyncio.create_task(listen(session)) for _ in range(SOCKETS)]
        for _ in sockets:
            await asyncio.wait_for(opened.acquire(), 30)
        answers = [asyncio.create_task(ask(session)) for _ in range(SLOW)]
        await asyncio.sleep(0.5)
        os.kill(stop, signal.SIGTERM)
        return Counter(await asyncio.gather(*sockets)), Counter(await asyncio.gather(*answers))


@pytest.mark.parametrize("kind", ["gunicorn", "standalone"])
def test_sockets_are_told_and_handlers_finish(
    kind: str, installed: Project, tmp_path: Path
) -> None:
    enough = {"MAX_WEBSOCKETS": str(SOCKETS)}
    if kind == "gunicorn":
        with workers(installed, tmp_path, **enough) as site:
            ended = run(last_moments(site.port, site.master))
            assert site.server.process.wait(timeout=30) == 0
            log = lines(site.server)
    else:
        port = free_port()
        with alone(installed, tmp_path, port, **enough) as server:
            ended = run(last_moments(port, server.process.pid))
            assert server.process.wait(timeout=30) == 0
            log = lines(server)
    assert ended == ({1001: SOCKETS}, {(200, "slept", "close"): SLOW})
    assert not [line for line in log if line["level"] in {"error", "critical"}]
    (*_, last) = [line for line in log if line.get("path") == "/live"]
    assert last["status"] == 101


async def one_slow_request(port: int, meanwhile: list[int]) -> int | None:
    """Ask for an answer that takes a minute, and send signals; return the status, if any came."""
    slow = f"http://127.0.0.1:{port}/slow?seconds=60"

    async def ask(session: aiohttp.ClientSession) -> int | None:
        try:
            async with session.get(slow) as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return None

    async with aiohttp.ClientSession() as session:
        answer = asyncio.create_task(ask(session))
        for pid in meanwhile:
            await asyncio.sleep(1)
            os.kill(pid, signal.SIGTERM)
        return await answer


@pytest.mark.parametrize("ends", ["by a second signal", "at the deadline"])
def test_a_request_that_takes_too_long_is_cut_off(
    ends: str, installed: Project, tmp_path: Path
) -> None:
    port = free_port()
    early = ends == "by a second signal"
    with alone(installed, tmp_path, port, GRACEFUL_TIMEOUT="30" if early else "3") as server:
        began = time.monotonic()
        signals = [server.process.pid] * (2 if early else 1)
        assert run(one_slow_request(port, signals)) is None
        assert server.process.wait(timeout=30) == 0
        assert time.monotonic() - began < 20
    events = [line["event"] for line in lines(server)]
    assert "1 connections are cut off" in events
    assert "cancelled: GET /slow?seconds=60" in events


async def probe(port: int, pid: int) -> list[tuple[int, str, str]]:
    """Ask the health checks on connections that are open when the server is stopped."""
    base = f"http://127.0.0.1:{port}"
    answers = []
    async with aiohttp.ClientSession() as first, aiohttp.ClientSession() as second:
        sessions = {"/readyz": first, "/livez": second}
        for path, session in sessions.items():
            async with session.get(base + path) as response:
                assert response.status == 200
                assert "Connection" not in response.headers
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0.5)
        for path, session in sessions.items():
            async with session.get(base + path) as response:
                status = (await response.json())["status"]
                answers.append((response.status, status, response.headers["Connection"]))
    return answers


def test_health_checks_know_that_it_drains(installed: Project, tmp_path: Path) -> None:
    port = free_port()
    with alone(installed, tmp_path, port) as server:
        answers = run(probe(port, server.process.pid))
        assert server.process.wait(timeout=30) == 0
    assert answers == [(503, "draining", "close"), (200, "alive", "close")]


def test_a_worker_that_drains_is_not_taken_for_dead(installed: Project, tmp_path: Path) -> None:
    """gunicorn kills workers that give no sign of life for ``--timeout`` seconds."""

    async def ask(site_port: int, master: int) -> str:
        url = f"http://127.0.0.1:{site_port}/slow?seconds=6"
        async with aiohttp.ClientSession() as session:
            answer = asyncio.create_task(session.get(url))
            await asyncio.sleep(1)
            os.kill(master, signal.SIGHUP)
            async with await answer as response:
                return await response.text()

    with workers(installed, tmp_path, "--timeout", "2") as site:
        assert run(ask(site.port, site.master)) == "slept"
        assert "WORKER TIMEOUT" not in site.server.output()
