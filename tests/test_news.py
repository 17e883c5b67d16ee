"""News in a real browser: edited in one window, shown in another window without a reload."""

import signal
from collections.abc import Iterator

import pytest
from conftest import (
    PASSWORD,
    SCREENSHOTS,
    Project,
    Site,
    Tab,
    client,
    gunicorn,
    serving,
    wait_for,
)
from layout import assert_fits
from needs import needs
from playwright.sync_api import Browser, Page

pytestmark = [needs("browser"), pytest.mark.xdist_group("browser")]  # the tests share a browser

HOSTILE = """\
<script>window.hacked = 1</script>
<img src=x onerror="window.hacked = 2">
[a link](javascript:window.hacked=3) and ![an image](data:text/html,<script>window.hacked=4</script>)
<javascript:window.hacked=5>
"""


@pytest.fixture(scope="module")
def site(
    installed: Project, account: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Run the project under gunicorn, with two workers, its own database and some news items."""
    folder = tmp_path_factory.mktemp("news")
    url = f"sqlite:///{folder}/app.db"
    installed.make("seed", DATABASE_URL=url)
    with serving(installed, folder, account, gunicorn, DATABASE_URL=url) as site:
        yield site


def sign_in(page: Page, site: Site) -> None:
    page.goto(f"{site.base}/admin/news/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.base}/admin/news/")


def write(page: Page, site: Site, title: str, body: str, button: str = "Publish now") -> None:
    page.goto(f"{site.base}/admin/news/new")
    page.get_by_label("Title", exact=True).fill(title)
    page.get_by_label("Text, in Markdown").fill(body)
    page.get_by_role("button", name=button).click()
    page.wait_for_url(f"{site.base}/admin/news/")


def test_published_news_appears_on_open_pages_without_a_reload(
    tab: Tab, browser: Browser, site: Site
) -> None:
    sign_in(tab.page, site)
    reader = Tab(browser.new_page())
    reader.page.goto(f"{site.base}/news")
    reader.page.evaluate("window.loaded = 'once'")
    reader.page.get_by_text("Live", exact=True).wait_for()
    title = "Grüße aus Zürich & 東京"
    assert reader.page.get_by_text(title).count() == 0
    write(tab.page, site, title, "It *appears*.")
    reader.page.get_by_role("link", name=title).wait_for()
    assert reader.page.evaluate("window.loaded") == "once"

    reader.page.get_by_role("link", name=title).click()
    reader.page.get_by_text("It appears.").wait_for()
    assert reader.page.locator("h1").inner_text() == title
    reader.page.evaluate("window.loaded = 'once'")
    reader.page.get_by_text("Live", exact=True).wait_for()
    tab.page.get_by_role("link", name=title, exact=True).click()
    tab.page.get_by_label("Text, in Markdown").fill("It has *changed*.")
    tab.page.get_by_role("button", name="Save").click()
    reader.page.get_by_text("It has changed.").wait_for()
    assert reader.page.evaluate("window.loaded") == "once"
    tab.page.get_by_role("link", name=title, exact=True).click()
    tab.page.get_by_label("Last part").fill("renamed")
    tab.page.get_by_role("button", name="Save").click()
    reader.page.wait_for_url(f"{site.base}/news/renamed")
    assert reader.wrong == tab.wrong == []
    reader.page.context.close()


def test_news_published_while_a_page_is_offline_appears_when_it_is_online_again(
    tab: Tab, browser: Browser, site: Site
) -> None:
    sign_in(tab.page, site)
    reader = Tab(browser.new_page()).page
    reader.goto(f"{site.base}/news")
    reader.get_by_text("Live", exact=True).wait_for()
    reader.context.set_offline(True)
    site.server.process.send_signal(signal.SIGHUP)  # closes the WebSocket
    reader.get_by_text("Offline").wait_for()
    write(tab.page, site, "Missed", "And seen.")
    reader.context.set_offline(False)
    reader.get_by_role("link", name="Missed").wait_for()
    reader.context.close()


def test_invalid_field_is_marked_and_the_form_keeps_its_values(tab: Tab, site: Site) -> None:
    sign_in(tab.page, site)
    tab.page.goto(f"{site.base}/admin/news/new")
    tab.page.get_by_label("Title", exact=True).fill("A title")
    tab.page.get_by_label("Last part").fill("Not A Slug!")
    tab.page.get_by_label("Text, in Markdown").fill("The text.")
    tab.page.get_by_role("button", name="Save").click()
    wrong = tab.page.locator("#slug-wrong")
    wrong.wait_for()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.page.screenshot(path=SCREENSHOTS / "editor.png")
    beside = tab.page.get_by_label("Last part")
    assert beside.get_attribute("aria-describedby") == wrong.get_attribute("id")
    assert beside.input_value() == "Not A Slug!"
    assert tab.page.get_by_label("Text, in Markdown").input_value() == "The text."
    assert [each for each in tab.wrong if "422" not in each] == []


def test_pages_fit_into_wide_and_narrow_windows(tab: Tab, site: Site) -> None:
    tab.page.goto(f"{site.base}/news")
    assert_fits(tab.page, "news", screenshot=True)
    tab.page.locator("main article a, main li a, main h2 a").first.click()
    tab.page.wait_for_url(f"{site.base}/news/*")
    assert_fits(tab.page, "item", screenshot=True)
    assert tab.wrong == []


def test_scripts_of_a_cached_page_run_after_a_304(tab: Tab, site: Site) -> None:
    """A 304 response has no nonce of its own, so the nonce of the cached page stays valid."""
    for _ in range(2):
        tab.page.goto(f"{site.base}/news")
        tab.page.get_by_text("Live", exact=True).wait_for()
        tab.page.goto("about:blank")
    wait_for(lambda: site.requests("/news")[-1]["status"] == 304, "the page to be revalidated")
    assert tab.wrong == []


def test_hostile_markdown_runs_no_script(tab: Tab, site: Site) -> None:
    sign_in(tab.page, site)
    write(tab.page, site, "Hostile", HOSTILE)
    tab.page.goto(f"{site.base}/news/hostile")
    tab.page.get_by_text("a link").wait_for()
    for link in tab.page.locator("main a").all():
        assert not (link.get_attribute("href") or "").startswith(("javascript:", "data:"))
    assert tab.page.evaluate("window.hacked") is None
    assert tab.wrong == []


def test_feed_is_atom_and_can_be_revalidated(site: Site) -> None:
    with client() as http:
        answer = http.get(f"{site.base}/news.atom", headers={"Accept": "*/*"})
        assert answer.headers["Content-Type"].startswith("application/atom+xml")
        again = {"If-None-Match": answer.headers["ETag"]}
        assert http.get(f"{site.base}/news.atom", headers=again).status_code == 304
