"""Settings of the deployment: addresses, gunicorn, nginx, users, paths.

All programs that start or call a server read them: ``python -m``, adev and deploy/render.py import
this module. Programs that import nothing of the project run ``python -m <package>.deployment``:
deploy/gunicorn.conf.py, deploy/serve.py and shell scripts. .env.example describes the settings.
"""

import json
import os
import re
import sys
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Final, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from .environment import FromEnvironment, example, read
from .settings import Mode, Settings, load_settings

SOCKET_PATH: Final = 107
"""Maximum length of the address of a Unix socket, in bytes."""

PLAIN_PATH: Final = re.compile(r"[\w./+@-]+")
"""Pattern of the paths that have no special meaning in any configuration file."""

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


def _host(text: str) -> str:
    return "localhost" if text.lower() == "localhost" else _address(text)


def _bind(text: str) -> str:
    if text and not re.fullmatch(r"unix:.+|[^:]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}", text):
        raise ValueError("name an address with its port, or a socket after unix:")
    return text


def _user(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.-]{0,31}", name):
        raise ValueError("this is not the name of a user")
    return name


PlainPath = Annotated[Path, AfterValidator(_plain)]


def stray_host() -> str | None:
    """Return HOST if it is set and not an address, else None: conda and some shells export one."""
    host = os.environ.get("HOST", "")
    try:
        _host(host)
    except ValueError:
        return host
    return None


class Deployment(FromEnvironment):
    """Settings of the deployment. Raises pydantic.ValidationError, as Settings does."""

    # Where the application listens.
    bind: Annotated[str, AfterValidator(_bind)] = Field(
        default="", examples=["unix:/run/my-service/app.sock"]
    )
    host: Annotated[str, AfterValidator(_host)] = "127.0.0.1"
    port: Port = 8080

    # Settings of gunicorn.
    web_concurrency: int = Field(default=2, ge=1, le=1000)
    worker_timeout: int = Field(default=30, ge=2)
    max_requests: int = Field(default=0, ge=0)

    # Settings of the files in deploy/.
    app_server: Literal["gunicorn", "pool"] = "gunicorn"
    service_user: Annotated[str, AfterValidator(_user)] = "<< cookiecutter.__service >>"
    nginx_group: Annotated[str, AfterValidator(_user)] = "www-data"
    run_folder: PlainPath = Path("run")
    listen_address: Annotated[str, AfterValidator(_address)] = Field(
        default="", examples=["127.0.0.1"]
    )
    listen_port: Port = Field(default_factory=lambda known: known["port"], examples=["8080"])
    tls_certificate: PlainPath | None = Field(default=None, examples=["certs/localhost.pem"])
    tls_key: PlainPath | None = Field(default=None, examples=["certs/localhost.key"])
    tls_port: Port = 8443
    acme_folder: PlainPath = Path("run/acme")
    nginx_access_log: PlainPath = Path("/dev/stdout")
    nginx_max_upload: Annotated[str, Field(pattern=r"^(\d+[kKmMgG]?)?$", examples=["200m"])] = ""
    nginx_worker_processes: Annotated[
        str, BeforeValidator(str.lower), Field(pattern=r"^(auto|[1-9]\d*)$")
    ] = "auto"
    nginx_worker_connections: int = Field(default=4096, ge=16)
    nginx_worker_open_files: int = Field(default=16384, ge=32)

    @property
    def address(self) -> str:
        """The address on which the application listens, as in gunicorn: host:port, or unix:path."""
        return self.bind or f"{self.host}:{self.port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of values: the environment, without a stray HOST, and .env."""
        env = cast(EnvSettingsSource, env_settings)
        if stray_host():
            env.env_vars = {key: value for key, value in env.env_vars.items() if key != "host"}
        return init_settings, env, dotenv_settings

    @model_validator(mode="after")
    def _agree(self) -> "Deployment":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError(
                "TLS_CERTIFICATE and TLS_KEY are set both or neither; for example"
                f" {example(Deployment, 'tls_certificate')} {example(Deployment, 'tls_key')}"
            )
        if self.tls_certificate and self.tls_port == self.listen_port:
            raise ValueError(
                "TLS_PORT and LISTEN_PORT are the same; for example LISTEN_PORT=80 TLS_PORT=443"
            )
        if self.nginx_worker_open_files < 2 * self.nginx_worker_connections:
            # A proxied request uses two connections.
            raise ValueError(
                "NGINX_WORKER_OPEN_FILES is at least twice NGINX_WORKER_CONNECTIONS; for example"
                f" NGINX_WORKER_OPEN_FILES={2 * self.nginx_worker_connections}"
            )
        return self


def _is_of_this_host(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check_reach(settings: Settings, *addresses: str) -> None:
    """Raise SystemExit if other hosts can reach an address (host:port, unix:path) in development.

    A Unix socket counts as reachable, because a proxy connects to it. DEV_ALLOW permits this.
    """
    for address in addresses:
        if settings.development and not settings.dev_allow and not _is_of_this_host(address):
            raise SystemExit(
                f"Cannot listen on {address}, as ENVIRONMENT=development is for this host alone: set"
                " ENVIRONMENT=production, as in the .env that `make production` makes where there is"
                f" none, or allow others to connect, for example {example(Settings, 'dev_allow')}"
            )


def write_env() -> None:
    """Write .env for production if it does not exist.

    Raises SystemExit if the existing .env, or the environment, is for development.
    """
    try:
        with open(".env", "x", opener=partial(os.open, mode=0o600)) as file:
            file.write(f"ENVIRONMENT=production\nSECRET_KEYS={token_urlsafe(32)}\n")
    except FileExistsError:
        if read(Mode).development:
            raise SystemExit(
                "ENVIRONMENT is development in .env or the environment: move .env away, and"
                " `make production` makes one for production"
            ) from None
    else:
        print("Made .env for production, with a new key; .env.example has what else it may hold")


def _print_values() -> None:
    settings, deployment = load_settings(), read(Deployment)
    check_reach(settings, deployment.address)
    values = {
        # Platforms set PORT; for a proxy on the same host, set BIND to a Unix socket instead.
        "bind": deployment.address,
        "workers": deployment.web_concurrency,
        "timeout": deployment.worker_timeout,
        # The worker waits for handlers, shielded work and periodic work; the master waits longer.
        "graceful_timeout": 3 * int(settings.graceful_timeout) + 5,
        "max_requests": deployment.max_requests,
        "log_level": settings.log_level,
        "json": not settings.development,
    }
    print(json.dumps(values))


def main(arguments: list[str]) -> None:
    """Print one setting, or all values for gunicorn's master as JSON; check addresses; write .env.

    Raises SystemExit if a setting is wrong or unknown, or an address fails the check.
    """
    match arguments:
        case []:
            _print_values()
        case ["check", *addresses]:
            check_reach(load_settings(), *addresses)
        case ["write-env"]:
            write_env()
        case [name] if name in Deployment.model_fields:
            print(getattr(read(Deployment), name))
        case _:
            raise SystemExit(f"Name one of write-env, {', '.join(Deployment.model_fields)}")


if __name__ == "__main__":
    main(sys.argv[1:])
