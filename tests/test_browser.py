"""The pages in a real browser: Debian's Chromium, driven by Playwright."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import (
    PRODUCTION,
    SCREENSHOTS,
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
from playwright.sync_api import Browser, Error, Route


@pytest.fixture(scope="module")
def site(installed: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The default project in production, standalone."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    command = standalone(installed, "--port", str(port))
    log = tmp_path_factory.mktemp("site") / "log"
    ready = answers_at(f"{base}/livez")
    with started(command, log, ready, installed.path, **PRODUCTION):
        yield base


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_pages_fit_and_nothing_goes_wrong(tab: Tab, site: str, scheme: str, width: int) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.page.set_viewport_size({"width": width, "height": 800})
    tab.page.emulate_media(color_scheme=scheme)
    backgrounds = set()
    for name, path in {"home": "/", "about": "/about", "missing": "/nowhere"}.items():
        response = tab.page.goto(site + path)
        assert response
        assert response.status == (404 if name == "missing" else 200)
        tab.page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        backgrounds.add(tab.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert tab.page.locator("h1").count() == 1
    assert backgrounds == {"rgb(251, 250, 247)" if scheme == "light" else "rgb(20, 22, 26)"}
    # The browser says itself that a page was answered with 404.
    assert [wrong for wrong in tab.wrong if "404 (Not Found)" not in wrong] == []


def test_the_theme_is_chosen_and_kept(tab: Tab, site: str) -> None:
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


def test_pages_are_complete_without_javascript(browser: Browser, site: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site)
    page.get_by_role("navigation").get_by_text("About").click()
    assert page.url == f"{site}/about"
    assert page.locator("h1").inner_text() == "About"
    assert not page.locator("#theme").is_visible()
    context.close()


def test_the_policy_stops_scripts_that_are_not_ours(tab: Tab, site: str) -> None:
    def inject(route: Route) -> None:
        response = route.fetch()
        body = response.text().replace("</main>", "<script>window.evil = 1</script></main>")
        route.fulfill(response=response, body=body)

    tab.page.route(f"{site}/", inject)
    tab.page.goto(f"{site}/")
    assert tab.page.evaluate("window.evil") is None
    assert tab.page.locator("#theme").inner_text() == "Theme: system"  # ours runs
    # Of a page that came from no address, Chromium lets no WebSocket connect to this host.
    (violation,) = [wrong for wrong in tab.wrong if "LOCAL_NETWORK_ACCESS" not in wrong]
    assert "Content Security Policy" in violation


def test_integrity_stops_files_that_were_changed_on_the_way(tab: Tab, site: str) -> None:
    def tamper(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=response.text() + "/* tampered */")

    tab.page.route("**/static/theme.js*", tamper)
    tab.page.goto(f"{site}/")
    assert not tab.page.locator("#theme").is_visible()
    assert any("integrity" in wrong for wrong in tab.wrong)


def test_the_browser_keeps_versioned_files(tab: Tab, site: str) -> None:
    tab.page.goto(f"{site}/")
    cached = "performance.getEntriesByName(document.styleSheets[0].href)[0].transferSize"
    assert tab.page.evaluate(cached) > 0
    tab.page.goto(f"{site}/about")
    assert tab.page.evaluate(cached) == 0


@pytest.fixture
def developing(
    bake: Bake, installed: Project, tmp_path: Path
) -> Iterator[tuple[Project, Server, str]]:
    """A project of its own under `make dev`, on free ports."""
    project = bake()
    project.make("install")
    port = free_port()
    makefile = project.path / "Makefile"
    text = makefile.read_text()
    assert text.count("adev runserver --root") == 1
    makefile.write_text(text.replace("adev runserver --root", f"adev runserver -p {port} --root"))
    url = f"http://localhost:{port}"
    ready = answers_at(f"{url}/livez")
    with started(["make", "dev"], tmp_path / "log", ready, project.path) as server:
        yield project, server, url


def test_live_reload(developing: tuple[Project, Server, str], tab: Tab) -> None:
    """A changed .py, template and style sheet each reach the page, by themselves."""
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
    assert tab.page.evaluate("window.unreloaded")  # the style sheet alone was replaced

    assert tab.wrong == []
    template = source / "templates/index.html"
    template.write_text(template.read_text().replace("It is running", "It was changed"))
    tab.page.get_by_text("It was changed").wait_for()
    wait_for(lambda: tab.page.evaluate(colour), "the new colour")

    about = source / "about.py"
    about.write_text(about.read_text().replace("A web application", "A changed application"))
    tab.page.get_by_text("A changed application").wait_for(timeout=60_000)
    tab.page.wait_for_load_state("networkidle")

    tab.wrong.clear()  # what was asked for while adev started the server anew
    tab.page.goto(url)
    tab.page.goto(f"{url}/_debugtoolbar")
    assert "Debug" in tab.page.title()
    assert tab.wrong == []

    tab.page.close()
    server.stop(signal.SIGINT)  # leaves no process behind


def test_an_error_in_development_is_shown(
    developing: tuple[Project, Server, str], tab: Tab
) -> None:
    """A mistake in the code is explained in the browser, and mended without a restart by hand."""
    project, server, url = developing
    pages = project.path / "src" / project.package / "site/pages.py"
    good = pages.read_text()
    pages.write_text(good.replace('render(request, "index.html")', 'int("a mistake")'))

    def shows(text: str) -> bool:
        try:
            tab.page.goto(url)
        except Error:  # the server is being restarted
            return False
        return text in tab.page.content()

    wait_for(lambda: shows("ValueError: invalid literal"), "the explanation")
    pages.write_text(good)
    wait_for(lambda: shows("It is running"), "the page")
    server.stop(signal.SIGINT)
