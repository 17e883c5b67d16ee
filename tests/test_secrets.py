"""Passwords, hashes, keys and cookies are never logged or shown."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import (
    PASSWORD,
    PRODUCTION,
    SECRET,
    TIMEOUT,
    Project,
    Site,
    clean_environment,
    client,
    gunicorn,
    serving,
    sign_in,
    standalone,
)

WRONG = "what somebody mistook for the password"
COMMANDS = pytest.mark.parametrize("command", [standalone, gunicorn])


def raw(site: Site, *lines: str) -> str:
    """Send the lines of a request's head, and return the response."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=TIMEOUT) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1"))
        return connection.makefile("rb").read().decode()


@COMMANDS
def test_secrets_are_neither_logged_nor_shown(
    command: Callable[..., list[str]], installed: Project, account: str, tmp_path: Path
) -> None:
    hashed = account.partition(":")[2]
    variables = {"LOG_LEVEL": "DEBUG", "DRAIN_TIMEOUT": "0.5"}
    with (
        serving(installed, tmp_path, account, command, **variables) as site,
        client() as http,
    ):
        login, files = f"{site.base}/admin/login", f"{site.base}/admin/files/"
        http.headers["Accept"] = "text/html"
        failed = http.post(login, data={"name": "ada", "password": WRONG})
        assert failed.status_code == 401
        sign_in(http, site.base)
        cookie = http.cookies["session"].strip('"')
        assert len(cookie) > 100
        # Passwords in the wrong fields.
        form = {"name": PASSWORD, "password": WRONG}
        pages = [
            failed,
            http.get(login),
            http.post(login, json=form),
            http.post(login, files={"password": PASSWORD}),
            http.post(login, data=form, headers={"Content-Type": "text/plain; charset=none"}),
            http.post(f"{site.base}/nowhere", data={"password": PASSWORD}),
            http.post(login, data={"password": PASSWORD}, headers={"Origin": "http://evil"}),
            http.get(f"{site.base}/admin/"),
            http.get(f"{site.base}/admin/nowhere"),
            http.post(files, files={"file": ("a.txt", b"content")}),
            http.get(files),
            http.post(files, content=b"no form"),
        ]
        statuses = [page.status_code for page in pages]
        assert statuses == [401, 303, 415, 415, 415, 404, 403, 200, 404, 303, 200, 415]
        assert "DEBUG" in pages[7].text  # the overview shows the settings
        assert "a.txt" in pages[10].text
        own = ("Host: localhost", f"Cookie: session={cookie}")
        malformed = [
            raw(site, "GET / HTTP/1.1", *own, "X-Header: \0"),
            raw(site, "GET / HTTP/1.1", *own, f"Cookie: {PASSWORD}\0"),
            raw(site, "GET / HTTP/1.1", "Host: localhost", f"Cookie: session={cookie * 50}"),
            raw(site, f"GET /{'a' * 9000} HTTP/1.1", *own),
            raw(site, "GET / HTTP/1.1", *own, "Content-Length: many"),
            raw(site, "POST /admin/files/ HTTP/1.1", *own, "Expect: nothing", "Connection: close"),
        ]
        assert [answer.split()[1] for answer in malformed] == [*["400"] * 5, "403"]
        http.cookies.set("session", f"{cookie[:-9]}AAAAAAAA=")
        assert http.get(f"{site.base}/admin/").status_code == 303
        http.cookies.clear()
        sign_in(http, site.base)
        cookies = [cookie, http.cookies["session"].strip('"')]
        assert http.post(f"{site.base}/admin/logout").status_code == 303
        site.server.stop()
    said = site.server.output()
    assert '"event":"signed out"' in said
    assert "malformed request" in said
    shown = "\n".join([said, *(page.text for page in pages)])
    secrets = [PASSWORD, WRONG, hashed, hashed.rpartition("$")[2], SECRET]
    # Parts of a cookie are secret too: an attacker could guess or find the rest.
    secrets += [part[20:60] for part in cookies] + [part[-60:-20] for part in cookies]
    assert [secret for secret in secrets if secret in shown] == []


def test_error_page_of_a_malformed_request_does_not_quote_its_cookie(
    installed: Project, account: str, tmp_path: Path
) -> None:
    """Otherwise scripts could read an HttpOnly cookie, e.g. after making the header too long."""
    cookie = "gAAAAABof-somebody-else"
    with serving(installed, tmp_path, account) as site:
        for header in (cookie * 500, f"{cookie}\0"):
            answer = raw(site, "GET / HTTP/1.1", "Host: localhost", f"Cookie: session={header}")
            assert answer.split()[1] == "400"
            assert cookie not in answer


@COMMANDS
def test_wrong_settings_are_named_but_their_values_are_not_shown(
    command: Callable[..., list[str]], installed: Project, account: str
) -> None:
    hashed = account.partition(":")[2]
    salt, secret = hashed.split("$")[-2:]
    short = "a-short-key-that-is-secret"
    for users, keys in [
        (hashed, short),
        (f"{account},bob:{hashed}", f"{SECRET},{short}"),
        (f"{account} {account}", short),
        (f"ada:{hashed[:-1]}", short),
        (f"ada:{hashed.replace('m=65536', 'm=8')}", short),
    ]:
        variables = PRODUCTION | {"ADMIN_USERS": users, "SECRET_KEYS": keys}
        done = subprocess.run(
            command(installed),
            cwd=installed.path,
            env=clean_environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode != 0
        _, *messages = done.stdout.splitlines()
        assert sorted(each.split()[0] for each in messages) == ["ADMIN_USERS:", "SECRET_KEYS:"]
        for part in (salt, secret[:-1], SECRET, short):
            assert part not in done.stdout
