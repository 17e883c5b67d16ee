"""nginx in front of the project, for tests."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import PRODUCTION, Project, Server, answers_at, standalone, started

CONF = """
user {user};
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream app {{
    server unix:{folder}/server.sock;
    {upstream}
  }}
  {servers}
}}
"""


@contextmanager
def nginx(folder: Path, port: int, servers: str, upstream: str = "") -> Iterator[Server]:
    """Run nginx with these servers; one of them listens on the port and proxies to ``app``."""
    conf = folder / "nginx.conf"
    conf.write_text(
        CONF.format(user=getpass.getuser(), folder=folder, servers=servers, upstream=upstream)
    )
    command = ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(conf)]
    ready = answers_at(f"http://127.0.0.1:{port}/livez")
    with started(command, folder / "nginx.log", ready, folder) as server:
        yield server


@contextmanager
def proxied(
    project: Project, folder: Path, port: int, servers: str, **environment: str
) -> Iterator[Server]:
    """Serve the project on a Unix socket behind nginx, which listens on a TCP port."""
    uds = folder / "server.sock"
    app = standalone(project, "--path", str(uds))
    ready = answers_at("http://localhost/livez", uds)
    variables = PRODUCTION | {"UPLOAD_FOLDER": str(folder / "uploads")} | environment
    with (
        started(app, folder / "log", ready, project.path, **variables) as server,
        nginx(folder, port, servers),
    ):
        yield server
