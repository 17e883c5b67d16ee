"""Checks that a page fits wide and narrow windows, in both colour schemes."""

from itertools import product

from conftest import SCREENSHOTS
from playwright.sync_api import Page

BACKGROUNDS = {"light": "rgb(251, 250, 247)", "dark": "rgb(20, 22, 26)"}
WIDTHS = (1200, 360)


def assert_fits(page: Page, name: str, *, screenshot: bool = False) -> None:
    """Show the page in each width and colour scheme; fail if it is wider than the window."""
    for scheme, width in product(BACKGROUNDS, WIDTHS):
        page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
        page.set_viewport_size({"width": width, "height": 800})
        if screenshot:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png")
        found = page.evaluate("document.documentElement.scrollWidth")
        assert found <= width, f"{name} is {found} pixels wide in a window of {width}, {scheme}"
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == BACKGROUNDS[scheme], f"the background of {name} is not {scheme}"
