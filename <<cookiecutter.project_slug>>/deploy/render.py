"""Fill the files of deploy/ in, with the settings and the place where the project is installed.

``python deploy/render.py nginx/site.conf`` prints one. ``python deploy/render.py FILE... FOLDER``
writes several into a folder, under their own names.
"""

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

# % filter replace("package_name", cookiecutter.package_name)
import package_name
from package_name.deployment import (
    PLAIN_PATH,
    SOCKET_PATH,
    Deployment,
    check_reach,
)
from package_name.environment import read
from package_name.settings import load_settings
from package_name.web.static import CODINGS, StaticFiles

STATIC = Path(package_name.__file__).parent / "static"
# % endfilter
DEPLOY = Path(__file__).resolve().parent
PROJECT = DEPLOY.parent
SOCKETS = "sockets"
"""Name of the folder in RUN_FOLDER that belongs to the service user."""
UPLOAD_OVERHEAD = 16 * 1024
"""Maximum size of a form around the file in it, in bytes; the same as in admin/files/."""


def nginx_facts() -> dict[str, object]:
    """Return the values that depend on the installed nginx. Raises SystemExit if it is missing."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise SystemExit("nginx is not installed; on Debian: apt-get install nginx")
    told = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stderr
    version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", told)
    modules = re.search(r"--modules-path=(\S+)", told)
    conf = re.search(r"--conf-path=(\S+)", told)
    brotli = Path(modules[1] if modules else "", "ngx_http_brotli_static_module.so")
    return {
        "nginx": program,
        "mime_types": Path(conf[1] if conf else "/etc/nginx/nginx.conf").with_name("mime.types"),
        "brotli_module": brotli if brotli.is_file() else None,
        # `listen … http2` before 1.25.1, `http2 on` since then.
        "http2_directive": version is not None and tuple(map(int, version.groups())) >= (1, 25, 1),
    }


def versions() -> list[str]:
    """Return the URLs of static files in pages, as regular expressions."""
    static = StaticFiles("/static", STATIC, name="static")
    packed = tuple(suffix for suffix, _ in CODINGS.values())
    files = sorted(path for path in STATIC.rglob("*") if path.is_file())
    names = [path.relative_to(STATIC) for path in files if not path.name.endswith(packed)]
    return [re.escape(static.versioned_url(str(name))) for name in names]


def context() -> dict[str, object]:
    """Return the variables for the templates. Raises SystemExit if a setting is wrong."""
    settings, deployment = load_settings(), read(Deployment)
    kept = [PROJECT / settings.upload_folder]
    # % if cookiecutter.database == "sqlite"
    kept.append((PROJECT / settings.database_url.removeprefix("sqlite:///")).parent)
    if PROJECT.is_relative_to(kept[-1]):
        raise SystemExit("DATABASE_URL: name a file in a folder of its own: sqlite:///data/app.db")
    # % endif
    for path in (PROJECT, Path(sys.prefix), *kept):
        if not PLAIN_PATH.fullmatch(str(path)):
            raise SystemExit(f"{path}: a path here has only letters, digits and . / _ + @ -")
    run = PROJECT / deployment.run_folder
    pool = deployment.app_server == "pool"
    names = [f"app_{number + 1}" for number in range(deployment.web_concurrency)]
    sockets = [run / SOCKETS / f"{name}.sock" for name in (names if pool else ["app"])]
    check_reach(settings, f"unix:{sockets[0]}")
    if len(os.fsencode(sockets[-1])) > SOCKET_PATH:
        raise SystemExit(f"{sockets[-1]}: too long for the address of a socket; set RUN_FOLDER")
    networks = [str(network) for network in settings.trusted_proxies if network != "unix"]
    # nginx gives the first name to a request without one, so it must not be a pattern.
    hosts = sorted(dict.fromkeys(settings.allowed_hosts), key=lambda host: host.startswith("*"))
    # Shorter than in the application, so that nginx uses no connection that is being closed.
    idle = 0.8 * min(settings.keepalive_timeout, settings.drain_timeout)
    return {
        **deployment.model_dump(),
        **nginx_facts(),
        "settings": settings,
        "project": PROJECT,
        "deploy": DEPLOY,
        "run_folder": run,
        "bin": Path(sys.prefix, "bin"),
        "proxies": networks,
        "trusted": ",".join(["unix", *networks]),
        "root": os.geteuid() == 0,
        "ipv6": Path("/proc/net/if_inet6").exists(),
        "static": STATIC,
        "versions": versions(),
        "uploads": kept[0],
        "kept": " ".join(map(str, kept)),
        "accel": f"{(settings.accel_redirect or '/_files').rstrip('/')}/",
        "acme_folder": PROJECT / deployment.acme_folder,
        "tls_certificate": deployment.tls_certificate and PROJECT / deployment.tls_certificate,
        "tls_key": deployment.tls_key and PROJECT / deployment.tls_key,
        # nginx uses the first host for a request without a name.
        "hosts": hosts,
        "server_names": " ".join("_" if host == "*" else host for host in hosts),
        "sockets": sockets,
        "upstream_idle_ms": int(idle * 1000),
        "max_body": int(settings.max_body_size),
        "max_upload": deployment.nginx_max_upload or settings.max_upload_size + UPLOAD_OVERHEAD,
        # A little longer than the timeout of gunicorn itself.
        "stop_timeout": 3 * int(settings.graceful_timeout) + 10,
    }


def refuse_shared(folder: Path) -> None:
    """Raise SystemExit if another user could place a link where root writes files."""
    real = folder.resolve()
    for place in {folder, *folder.parents, real, *real.parents}:
        status = place.lstat()
        shared = status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode)
        if status.st_mode & stat.S_ISVTX and place not in {folder, real}:
            shared = False  # as in /tmp: other users cannot replace root's files
        if status.st_uid != 0 or shared:
            raise SystemExit(f"{folder}: root does not write here, as others may ({place})")


def prepare(folder: Path, known: dict[str, object]) -> None:
    """Create the folder and the one for sockets in it; only that belongs to the service user.

    Raises SystemExit if root writes there, and other users can.
    """
    root, sockets = os.geteuid() == 0, folder / SOCKETS
    folder.mkdir(mode=0o755 if root else 0o700, parents=True, exist_ok=True)
    if root:
        refuse_shared(folder)
        refuse_shared(Path(str(known["nginx_access_log"])).absolute().parent)
    sockets.mkdir(mode=0o700, exist_ok=True)
    if root:
        user = pwd.getpwnam(str(known["service_user"]))
        os.chown(sockets, user.pw_uid, -1, follow_symlinks=False)
    (folder / "reload.lock").touch(mode=0o600)


def main(arguments: list[str]) -> None:
    """Render the named files. Raises SystemExit if that fails."""
    *files, folder = arguments if len(arguments) > 1 else [*arguments, ""]
    if not files or not all((DEPLOY / name).is_file() for name in files):
        raise SystemExit(f"{__doc__}\nNo such file in {DEPLOY}, or none was named.")
    environment = Environment(
        autoescape=False,  # noqa: S701  # these are not HTML
        keep_trailing_newline=True,
        loader=FileSystemLoader(DEPLOY),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    known = context()
    if folder:
        try:
            prepare(Path(folder).absolute(), known)
        except KeyError as error:
            raise SystemExit(f"SERVICE_USER: {error.args[0]}") from None
        except OSError as error:
            raise SystemExit(f"{folder}: {error.strerror}; set RUN_FOLDER") from None
    for name in files:
        text = environment.get_template(name).render(known)
        if folder:
            Path(folder, Path(name).name).write_text(text)
        else:
            sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
