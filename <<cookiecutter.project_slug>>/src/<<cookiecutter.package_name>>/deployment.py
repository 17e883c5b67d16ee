"""What surrounds the application in production, as far as it can be set: gunicorn, nginx, users, paths.

Read by deploy/render.py, and as JSON (``python -m``) by deploy/gunicorn.conf.py and deploy/serve.py;
described in .env.example.
"""

import json
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings

from .settings import FROM_ENVIRONMENT, load_settings, read

SOCKET_PATH: Final = 107
"""Bytes that the address of a Unix socket may have."""

PLAIN_PATH: Final = re.compile(r"[\w./+@-]+")
"""What no configuration file reads as something else than a path."""

Port = Annotated[int, Field(ge=1, le=65535)]


def _plain(path: Path) -> Path:
    if not PLAIN_PATH.fullmatch(str(path)):
        raise ValueError("a path here has only letters, digits and . / _ + @ -")
    return path


def _address(text: str) -> str:
    if not text:
        return text
    address = ip_address(text.strip("[]"))
    return f"[{address}]" if address.version == 6 else str(address)


def _user(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.-]{0,31}", name):
        raise ValueError("this is not the name of a user")
    return name


PlainPath = Annotated[Path, AfterValidator(_plain)]


class Deployment(BaseSettings):
    """What can be set around the application. Raises pydantic.ValidationError, as Settings does."""

    model_config = FROM_ENVIRONMENT

    # Of gunicorn.
    bind: str = ""
    host: str = "127.0.0.1"
    port: Port = 8080
    web_concurrency: int = Field(default=2, ge=1, le=1000)
    worker_timeout: int = Field(default=30, ge=2)
    max_requests: int = Field(default=0, ge=0)

    # Of the files in deploy/.
    app_server: Literal["gunicorn", "pool"] = "gunicorn"
    service_user: Annotated[str, AfterValidator(_user)] = "<< cookiecutter.__service >>"
    nginx_group: Annotated[str, AfterValidator(_user)] = "www-data"
    run_folder: PlainPath = Path("run")
    listen_address: Annotated[str, AfterValidator(_address)] = ""
    listen_port: Port = 8000
    tls_certificate: PlainPath | None = None
    tls_key: PlainPath | None = None
    tls_port: Port = 8443
    acme_folder: PlainPath = Path("run/acme")
    nginx_access_log: PlainPath = Path("/dev/stdout")
    nginx_max_upload: Annotated[str, Field(pattern=r"^(\d+[kKmMgG]?)?$")] = ""
    nginx_worker_processes: Annotated[str, Field(pattern=r"^(auto|[1-9]\d*)$")] = "auto"
    nginx_worker_connections: int = Field(default=4096, ge=16)
    nginx_worker_open_files: int = Field(default=16384, ge=32)

    @model_validator(mode="after")
    def _agree(self) -> "Deployment":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS_CERTIFICATE and TLS_KEY are set both or neither")
        if self.tls_certificate and self.tls_port == self.listen_port:
            raise ValueError("TLS_PORT and LISTEN_PORT are the same")
        if self.nginx_worker_open_files < 2 * self.nginx_worker_connections:
            # A request that is passed on is two connections.
            raise ValueError("NGINX_WORKER_OPEN_FILES is at least twice NGINX_WORKER_CONNECTIONS")
        return self


def main() -> None:
    """Print what the processes that load nothing of the project have to know, as one JSON object.

    Raises SystemExit when a setting is wrong.
    """
    settings, deployment = load_settings(), read(Deployment)
    values = {
        # A platform gives PORT; a proxy on the same host is better reached by a Unix socket, by BIND.
        "bind": deployment.bind or f"{deployment.host}:{deployment.port}",
        "workers": deployment.web_concurrency,
        "timeout": deployment.worker_timeout,
        # The worker waits for handlers, shielded work and periodic work; the master, longer.
        "graceful_timeout": 3 * int(settings.graceful_timeout) + 5,
        "max_requests": deployment.max_requests,
        "log_level": settings.log_level,
        "json": not settings.development,
    }
    print(json.dumps(values))


if __name__ == "__main__":
    main()
