"""The pages in a real browser: Debian's Chromium, driven by Playwright."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import (
    PRODUCTION,
    Bake,
    Project,
    Server,
    Tab,
    answers_at,
    free_port,
    standalone,
    started,
    wait_for,
)
from layout import assert_fits
from needs import needs
from playwright.sync_api import Browser, Error, Route

pytestmark = [needs("browser"), pytest.mark.xdist_group("browser")]  # the tests share a browser


@pytest.fixture(scope="module")
def site(installed: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the default project in production, standalone."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    command = standalone(installed, "--port", str(port))
    log = tmp_path_factory.mktemp("site") / "log"
    ready = answers_at(f"{base}/livez")
    with started(command, log, ready, installed.path, **PRODUCTION):
        yield base


def test_pages_fit_into_wide_and_narrow_windows(tab: Tab, site: str) -> None:
    for name, path in {"home": "/", "about": "/about", "missing": "/nowhere"}.items():
        response = tab.page.goto(site + path)
        assert response
        assert response.status == (404 if name == "missing" else 200)
        assert tab.page.locator("h1").count() == 1
        assert_fits(tab.page, name, screenshot=True)
    # The browser itself reports the status 404.
    assert [wrong for wrong in tab.wrong if "404 (Not Found)" not in wrong] == []


def test_chosen_theme_applies_to_the_next_page(tab: Tab, site: str) -> None:
    tab.page.emulate_media(color_scheme="light")
    tab.page.goto(site)
    button = tab.page.locator("#theme")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = tab.page.evaluate(colour)
    assert button.inner_text() == "Theme: system"
    button.click()
    assert tab.page.evaluate(colour) == light
    button.click()
    assert button.inner_text() == "Theme: dark"
    assert tab.page.evaluate(colour) != light
    tab.page.goto(f"{site}/about")
    assert button.inner_text() == "Theme: dark"
    button.click()
    assert button.inner_text() == "Theme: system"
    assert tab.wrong == []


def test_pages_work_without_javascript(browser: Browser, site: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site)
    page.get_by_role("navigation").get_by_text("About").click()
    assert page.url == f"{site}/about"
    assert page.locator("h1").inner_text() == "About"
    assert not page.locator("#theme").is_visible()
    context.close()


def test_content_security_policy_blocks_injected_scripts(tab: Tab, site: str) -> None:
    def inject(route: Route) -> None:
        response = route.fetch()
        body = response.text().replace("</main>", "<script>window.evil = 1</script></main>")
        route.fulfill(response=response, body=body)

    tab.page.route(f"{site}/", inject)
    tab.page.goto(f"{site}/")
    assert tab.page.evaluate("window.evil") is None
    assert tab.page.locator("#theme").inner_text() == "Theme: system"  # our script runs
    # Chromium refuses WebSockets to this host from a page that Playwright has fulfilled.
    (violation,) = [wrong for wrong in tab.wrong if "LOCAL_NETWORK_ACCESS" not in wrong]
    assert "Content Security Policy" in violation


def test_script_with_a_wrong_integrity_hash_is_not_run(tab: Tab, site: str) -> None:
    def tamper(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=response.text() + "/* tampered */")

    tab.page.route("**/static/theme.js*", tamper)
    tab.page.goto(f"{site}/")
    assert not tab.page.locator("#theme").is_visible()
    assert any("integrity" in wrong for wrong in tab.wrong)


def test_versioned_file_comes_from_the_cache_of_the_browser(tab: Tab, site: str) -> None:
    tab.page.goto(f"{site}/")
    cached = "performance.getEntriesByName(document.styleSheets[0].href)[0].transferSize"
    assert tab.page.evaluate(cached) > 0
    tab.page.goto(f"{site}/about")
    assert tab.page.evaluate(cached) == 0


@pytest.fixture
def developing(
    bake: Bake, installed: Project, tmp_path: Path
) -> Iterator[tuple[Project, Server, str]]:
    """Run a new project under `make dev`, on free ports, with the installed project's tools."""
    project = bake()
    for path in (project.path / "pyproject.toml", *project.path.glob("requirements*.txt")):
        os.utime(path, (0, 0))  # older than the installation
    port = free_port()
    url = f"http://localhost:{port}"
    ready = answers_at(f"{url}/livez")
    command = ["make", "dev", f"PORT={port}", f"VENV={installed.path}/.venv"]
    source = str(project.path / "src")  # found before the source of the installed project
    with started(command, tmp_path / "log", ready, project.path, PYTHONPATH=source) as server:
        yield project, server, url


def test_changed_style_sheet_template_and_module_appear_on_the_open_page(
    developing: tuple[Project, Server, str], tab: Tab
) -> None:
    project, server, url = developing
    source = project.path / "src" / project.package
    greetings: list[str | bytes] = []

    def greet(frame: str | bytes) -> None:
        greetings.append(frame)

    tab.page.on("websocket", lambda socket: socket.on("framereceived", greet))
    tab.page.goto(url)
    wait_for(lambda: tab.page.evaluate("1") and greetings, "adev's greeting")
    assert tab.page.locator("#pDebugToolbarHandle").is_visible()

    sheet = source / "static/site.css"
    tab.page.evaluate("window.unreloaded = true")
    sheet.write_text(sheet.read_text() + "\nh1 { color: rgb(1, 2, 3); }\n")
    colour = "getComputedStyle(document.querySelector('h1')).color === 'rgb(1, 2, 3)'"
    wait_for(lambda: tab.page.evaluate(colour), "the new colour")
    assert tab.page.evaluate("window.unreloaded")  # only the style sheet was replaced

    assert tab.wrong == []
    template = source / "templates/index.html"
    template.write_text(template.read_text().replace("It is running", "It was changed"))
    tab.page.get_by_text("It was changed").wait_for()
    wait_for(lambda: tab.page.evaluate(colour), "the new colour")

    about = source / "about.py"
    about.write_text(about.read_text().replace("A web application", "A changed application"))
    tab.page.get_by_text("A changed application").wait_for()
    tab.page.wait_for_load_state("networkidle")

    tab.wrong.clear()  # requests fail while adev restarts the server
    tab.page.goto(url)
    tab.page.goto(f"{url}/_debugtoolbar")
    assert "Debug" in tab.page.title()
    assert tab.wrong == []

    tab.page.close()
    server.stop(signal.SIGINT)  # leaves no process running


def test_development_server_shows_an_exception_until_it_is_fixed(
    developing: tuple[Project, Server, str], tab: Tab
) -> None:
    project, server, url = developing
    pages = project.path / "src" / project.package / "site/pages.py"
    good = pages.read_text()
    pages.write_text(good.replace('render(request, "index.html")', 'int("a mistake")'))

    def shows(text: str) -> bool:
        try:
            tab.page.goto(url)
        except Error:  # the server is restarting
            return False
        return text in tab.page.content()

    wait_for(lambda: shows("ValueError: invalid literal"), "the explanation")
    pages.write_text(good)
    wait_for(lambda: shows("It is running"), "the page")
    server.stop(signal.SIGINT)
