"""The project behind nginx: X-Accel-Redirect, forwarded headers, and a chain of two proxies."""

import os
import signal
from pathlib import Path

import httpx
from conftest import PASSWORD, TIMEOUT, Project, Server, client, free_port, lines, sign_in
from needs import needs
from nginx import proxied

pytestmark = needs("nginx")


def access(server: Server, path: str) -> list[dict[str, object]]:
    return [line for line in lines(server) if line.get("path") == path]


ACCEL = """
server {{
  listen 127.0.0.1:{port};
  location / {{
    proxy_pass http://app;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
  }}
  location /_files/ {{
    internal;
    alias {folder}/uploads/files/;
    # Of the application's headers, nginx itself keeps the type, the disposition and the caching.
    add_header Content-Security-Policy $upstream_http_content_security_policy;
    add_header X-Content-Type-Options $upstream_http_x_content_type_options;
  }}
}}
"""


def test_nginx_sends_downloads_with_the_headers_of_the_application(
    installed: Project, account: str, tmp_path: Path
) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    servers = ACCEL.format(port=port, folder=tmp_path)
    content = os.urandom(300_000)
    trusting = {
        "ADMIN_USERS": account,
        "TRUSTED_PROXIES": "unix",
        "ACCEL_REDIRECT": "/_files/",
    }
    with proxied(installed, tmp_path, port, servers, **trusting) as server, client() as http:
        sign_in(http, base)
        uploaded = http.post(f"{base}/admin/files/", files={"file": ("größe.html", content)})
        assert uploaded.status_code == 201
        path = uploaded.headers["Location"]
        answer = http.get(base + path)
        assert answer.status_code == 200
        assert answer.content == content
        assert answer.headers["Server"].startswith("nginx")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        disposition = "attachment; filename=\"gr__e.html\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.html"
        assert answer.headers["Content-Disposition"] == disposition
        assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert "X-Accel-Redirect" not in answer.headers
        part = http.get(base + path, headers={"Range": "bytes=1000-1999"})
        assert part.status_code == 206
        assert part.content == content[1000:2000]
        direct = f"{base}/_files/{path.rpartition('/')[2]}/content"
        assert http.get(direct).status_code == 404
        http.cookies.clear()
        assert http.get(base + path).status_code == 401
        assert http.get(direct).status_code == 404
    statuses = [(line["status"], line["bytes"]) for line in access(server, path)]
    assert statuses[:2] == [(200, 0), (200, 0)]  # nginx sent the content


CHAIN = """
server {{
  listen 127.0.0.1:{outer};
  location / {{
    proxy_bind 127.0.0.3;
    proxy_pass http://127.0.0.1:{inner};
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto https;
  }}
}}
server {{
  listen 127.0.0.1:{inner};
  location / {{
    proxy_pass http://app;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto "$http_x_forwarded_proto,$scheme";
  }}
}}
"""


def test_client_and_scheme_are_found_behind_a_chain_of_proxies(
    installed: Project, account: str, tmp_path: Path
) -> None:
    """Send requests from 127.0.0.2 via nginx at 127.0.0.3 and a second nginx to a Unix socket."""
    outer, inner = free_port(), free_port()
    base = f"http://127.0.0.1:{outer}"
    servers = CHAIN.format(outer=outer, inner=inner)
    trusting = {"ADMIN_USERS": account, "TRUSTED_PROXIES": "unix,127.0.0.3"}
    spoofed = {"X-Forwarded-For": "203.0.113.1, 127.0.0.3", "X-Forwarded-Proto": "http"}
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with (
        proxied(installed, tmp_path, outer, servers, **trusting) as server,
        httpx.Client(transport=transport, headers=spoofed, timeout=TIMEOUT) as http,
    ):
        assert http.get(f"{base}/about").headers["Strict-Transport-Security"]
        form = {"name": "ada", "password": PASSWORD}
        login = f"{base}/admin/login"
        assert http.post(login, data=form, headers={"Origin": base}).status_code == 403
        https = {"Origin": f"https://127.0.0.1:{outer}"}
        answer = http.post(login, data=form, headers=https)
        assert answer.status_code == 303
        cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
        assert cookie.startswith("__Host-session=")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(attributes)
        assert not any(attribute.startswith("Domain") for attribute in attributes)
        page = http.get(f"{base}/admin/", headers={"Cookie": cookie})
        assert page.status_code == 200
        # Any host could set a cookie without the prefix, so it is ignored.
        renamed = {"Cookie": cookie.removeprefix("__Host-")}
        assert http.get(f"{base}/admin/", headers=renamed).status_code == 401
    for path in ("/about", "/admin/login", "/admin/"):
        assert {line["client"] for line in access(server, path)} == {"127.0.0.2"}


BEHIND = """
server {{
  listen 127.0.0.1:{port};
  location / {{
    proxy_pass http://app;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto https;
    proxy_set_header X-Request-ID $request_id;
    add_header X-Proxy-ID $request_id always;
  }}
}}
"""


def test_client_scheme_and_request_id_are_taken_from_nginx(
    installed: Project, tmp_path: Path
) -> None:
    port = free_port()
    servers = BEHIND.format(port=port)
    trusting = {"TRUSTED_PROXIES": "unix"}
    with proxied(installed, tmp_path, port, servers, **trusting) as server, client() as http:
        spoofed = {"X-Forwarded-For": "203.0.113.1", "X-Request-ID": "spoofed"}
        response = http.get(f"http://127.0.0.1:{port}/about", headers=spoofed)
        assert response.status_code == 200
        assert response.headers["X-Request-ID"] == response.headers["X-Proxy-ID"]
        assert response.headers["Strict-Transport-Security"]
        server.stop(signal.SIGTERM)
    (line,) = access(server, "/about")
    assert line["client"] == "127.0.0.1"
    assert line["request_id"] == response.headers["X-Proxy-ID"]
