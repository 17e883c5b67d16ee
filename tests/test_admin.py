"""The admin in a real browser: sign-in, files, and attacks from pages of other sites."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import PASSWORD, SCREENSHOTS, Project, Site, Tab, serving, wait_for
from layout import assert_fits
from needs import needs
from playwright.sync_api import Browser, Locator, Page

pytestmark = [needs("browser"), pytest.mark.xdist_group("browser")]  # the tests share a browser

REFUSED = "Failed to load resource: the server responded with a status of 401 (Unauthorized)"


@pytest.fixture(scope="module")
def site(
    installed: Project, account: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Serve the default project in production, standalone."""
    with serving(installed, tmp_path_factory.mktemp("admin"), account) as site:
        yield site


def sign_in(page: Page, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def upload(page: Page, name: str, content: bytes) -> None:
    page.get_by_label("A file of up to").set_input_files(
        {"name": name, "mimeType": "application/x-whatever", "buffer": content}
    )
    page.get_by_role("button", name="Upload").click()


@contextmanager
def slow_network(page: Page) -> Iterator[None]:
    """Limit the page's upload to 64 KiB per second inside the block."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
    network.send("Network.emulateNetworkConditions", limits | {"uploadThroughput": 64 * 1024})
    yield
    network.send("Network.emulateNetworkConditions", limits | {"uploadThroughput": -1})


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name)


def delete(page: Page, name: str) -> None:
    button = row(page, name).get_by_role("button", name="Delete for good")
    assert not button.is_visible()
    row(page, name).locator("summary").click()
    button.click()
    row(page, name).wait_for(state="detached")


def download(page: Page, name: str) -> bytes:
    with page.expect_download() as info:
        page.get_by_role("link", name=name).click()
    assert info.value.suggested_filename == name
    return Path(info.value.path()).read_bytes()


def test_sign_in_upload_download_delete_and_sign_out(tab: Tab, site: Site) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page = tab.page
    page.goto(f"{site.base}/admin/files/")
    assert page.url == f"{site.base}/admin/login?next=/admin/files/"
    page.screenshot(path=SCREENSHOTS / "sign-in.png")
    sign_in(page, "not the password at all")
    assert page.get_by_role("alert").inner_text() == "The name or the password is wrong."
    assert page.get_by_label("Name").input_value() == "ada"
    sign_in(page)
    page.wait_for_url(f"{site.base}/admin/files/")
    assert page.get_by_text("There are no files yet.").is_visible()

    content = bytes(range(256)) * 4096 * 3
    with slow_network(page):  # while the test checks the progress bar
        upload(page, "three MiB", content)
        bar = page.get_by_role("progressbar", name="Upload")
        wait_for(lambda: 0 < bar.evaluate("bar => bar.value") < 100, "the bar to move")
        assert page.locator("#upload [aria-hidden]").inner_text().endswith(" %")
        page.screenshot(path=SCREENSHOTS / "files.png")
        assert bar.is_visible()
        assert page.get_by_role("button", name="Upload").is_disabled()
    row(page, "three MiB").wait_for()
    assert row(page, "three MiB").get_by_role("cell").nth(1).inner_text() == "3,145,728"
    assert download(page, "three MiB") == content
    html = b"<!doctype html><script>document.title = 'evil'</script>"
    upload(page, "evil.html", html)
    row(page, "evil.html").wait_for()
    assert download(page, "evil.html") == html
    assert page.url == f"{site.base}/admin/files/"
    assert page.title() == "Files · My Service"
    delete(page, "evil.html")
    delete(page, "three MiB")
    assert site.kept() == []

    page.get_by_role("navigation", name="Admin").get_by_text("Overview").click()
    page.wait_for_url(f"{site.base}/admin/")
    assert page.locator("h1").inner_text() == "Overview"
    page.screenshot(path=SCREENSHOTS / "admin.png")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{site.base}/admin/login")
    page.goto(f"{site.base}/admin/")
    assert page.url == f"{site.base}/admin/login?next=/admin/"
    for _ in range(2):  # first to the page after the sign-out, then to the overview
        page.go_back()
    assert page.url == f"{site.base}/admin/login?next=/admin/"
    assert page.locator("h1").inner_text() == "Sign in"
    assert tab.wrong == [REFUSED]


def test_admin_pages_fit_into_wide_and_narrow_windows(tab: Tab, site: Site) -> None:
    page = tab.page
    page.goto(f"{site.base}/admin/login")
    assert_fits(page, "sign-in")
    sign_in(page, "not the password at all")
    assert page.get_by_role("alert").is_visible()
    assert_fits(page, "failed sign-in")
    sign_in(page)
    page.wait_for_url(f"{site.base}/admin/")
    for name, path in {"overview": "", "logs": "logs/", "files": "files/"}.items():
        page.goto(f"{site.base}/admin/{path}")
        assert page.locator("h1").inner_text().lower() == name
        assert_fits(page, name)
    long = f"{'a-name-that-does-not-end-' * 8}.txt"
    upload(page, long, b"x")
    row(page, long).locator("summary").click()
    assert row(page, long).get_by_role("button").is_visible()
    assert_fits(page, "files with a long name")
    row(page, long).get_by_role("button").click()
    row(page, long).wait_for(state="detached")
    assert tab.wrong == [REFUSED]


def test_admin_works_without_javascript(browser: Browser, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = Tab(context.new_page()).page
    page.goto(f"{site.base}/admin/files/")
    sign_in(page)
    upload(page, "plain.txt", b"without a script")
    page.wait_for_url(f"{site.base}/admin/files/")
    assert download(page, "plain.txt") == b"without a script"
    delete(page, "plain.txt")
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{site.base}/admin/files/")
    assert page.locator("h1").inner_text() == "Sign in"
    context.close()


ATTACK = """<!doctype html><title>trying</title>
<form method="post" action="{url}"></form>
<script>
  const after = () => document.title = "tried";
  fetch("{url}", {{method: "POST", mode: "no-cors", credentials: "include"}}).finally(() => {{
    const socket = new WebSocket("{socket}");
    socket.onopen = () => document.title = "connected";
    socket.onerror = after;
  }});
</script>
"""


class Attacker(BaseHTTPRequestHandler):
    """Server that returns the attack page at every URL."""

    def __init__(self, page: str, *arguments: object) -> None:
        self.page = page.encode()
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_page_of_another_site_cannot_post_or_open_a_websocket(
    host: str, tab: Tab, site: Site
) -> None:
    """Try a site on another host, and one on another port of this host, which gets its cookies."""
    page = tab.page
    page.goto(f"{site.base}/admin/files/")
    sign_in(page)
    upload(page, "mine.txt", b"still here")
    row(page, "mine.txt").wait_for()
    path = row(page, "mine.txt").locator("form").get_attribute("action")
    assert path
    url = site.base + path
    attack = ATTACK.format(url=url, socket=f"ws{site.base.removeprefix('http')}/admin/")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Attacker, attack)) as attacker:
        threading.Thread(target=attacker.serve_forever, args=(0.05,)).start()
        try:
            page.goto(f"http://{host}:{attacker.server_port}/")
            wait_for(lambda: page.title() == "tried", "the script to have tried")
            with page.expect_navigation() as navigation:
                page.evaluate("document.forms[0].submit()")
            assert navigation.value.status == 403
        finally:
            attacker.shutdown()
    wait_for(lambda: len(site.requests(path)) == 2, "the requests to be logged")
    assert [line["status"] for line in site.requests(path)] == [403, 403]
    assert site.requests("/admin/")[-1]["status"] == 403  # the WebSocket
    page.goto(f"{site.base}/admin/files/")
    assert download(page, "mine.txt") == b"still here"
    delete(page, "mine.txt")
