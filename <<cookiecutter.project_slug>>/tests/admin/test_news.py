"""The editor for news items in the admin."""

import asyncio
import logging
import re
from datetime import UTC, datetime
from html import unescape

import pytest
from aiohttp import ClientResponse, hdrs
from sqlalchemy.ext.asyncio import AsyncSession

# % filter replace("package_name", cookiecutter.package_name)
from package_name.live import BUS, EVERYBODY
from package_name.news import store
from package_name.news.drafts import Draft
from package_name.news.models import Item
from package_name.web.csrf import SEC_FETCH_SITE

from ..helpers import TIMEOUT, Client, until

# % endfilter
TITLE = "Frühling in 東京 & <b>more</b>"
SLUG = "frühling-in-東京-b-more-b"


async def save(admin: Client, path: str = "new", **typed: str) -> ClientResponse:
    fields = {"title": TITLE, "body": "Some *text*."} | typed
    return await admin.post(f"/admin/news/{path}", data=fields, allow_redirects=False)


def fields(page: str) -> dict[str, str]:
    """Return the values of a page's form."""
    (form,) = re.findall(r'<form class="fields editor".*?</form>', page, re.DOTALL)
    values = dict(re.findall(r'<input[^>]* name="(\w+)"[^>]* value="([^"]*)"', form))
    (values["body"],) = re.findall(r"<textarea[^>]*>\n(.*)</textarea>", form, re.DOTALL)
    return {name: unescape(value) for name, value in values.items()}


async def form_of(admin: Client, id_: int) -> dict[str, str]:
    async with admin.get(f"/admin/news/{id_}") as response:
        assert response.status == 200
        return fields(await response.text())


async def ids(admin: Client) -> list[int]:
    """Return the ids in the order of the list."""
    async with admin.get("/admin/news/") as response:
        return [int(each) for each in re.findall(r"/admin/news/(\d+)\"", await response.text())]


async def public(admin: Client, slug: str = SLUG) -> int:
    async with admin.get(f"/news/{slug}") as response:
        return response.status


async def test_editor_requires_a_session(client: Client) -> None:
    for path in ("/admin/news/", "/admin/news/new", "/admin/news/1"):
        async with client.get(path) as response:
            assert response.status == 401
    async with client.post(
        "/admin/news/new", data={}, headers={SEC_FETCH_SITE: "same-origin"}
    ) as r:
        assert r.status == 401


async def test_draft_is_saved_changed_published_and_deleted(admin: Client) -> None:
    async with admin.get("/admin/news/") as response:
        assert "There are no news yet." in await response.text()
    assert (await save(admin)).status == 303
    (id_,) = await ids(admin)
    assert await public(admin) == 404

    typed = await form_of(admin, id_)
    assert typed["title"] == TITLE
    assert typed["slug"] == SLUG
    assert typed["body"] == "Some *text*."
    assert typed["published_at"] == ""
    before = datetime.now(UTC).replace(microsecond=0)  # the precision of the form
    response = await save(admin, str(id_), **typed | {"publish": "now"})
    assert response.headers[hdrs.LOCATION] == "/admin/news/"
    assert await public(admin) == 200

    typed = await form_of(admin, id_)
    published = datetime.fromisoformat(typed["published_at"] + "Z")
    assert before <= published <= datetime.now(UTC)
    await save(admin, str(id_), **typed | {"body": "Other text."})
    assert (await form_of(admin, id_)) == typed | {
        "body": "Other text.",
        "version": str(int(typed["version"]) + 1),
    }
    typed = await form_of(admin, id_)
    await save(admin, str(id_), **typed | {"published_at": ""})  # back to a draft
    assert await public(admin) == 404

    version = (await form_of(admin, id_))["version"]
    async with admin.post(f"/admin/news/{id_}/delete", data={"version": version}) as response:
        assert "There are no news yet." in await response.text()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("title", "", "Is empty"),
        ("title", "x" * 201, "Has more than 200 characters"),
        ("title", "a\x00b", "Holds U+0000"),
        ("title", "a\u202eb", "Holds U+202E"),
        ("slug", "../etc", "lower-case letters"),
        ("slug", "Big", "lower-case letters"),
        ("body", "", "Is empty"),
        ("body", "x" * 50_001, "Has more than 50,000 characters"),
        ("body", "a\x08b", "Holds U+0008"),
        ("published_at", "tomorrow", "valid datetime"),
        ("published_at", "9000-01-01T00:00:00", "Lies in the future"),
    ],
)
async def test_invalid_field_is_422_and_the_form_keeps_the_input(
    admin: Client, field: str, value: str, said: str
) -> None:
    given = {"title": TITLE, "slug": "a", "body": "<b>&amp;", "published_at": "", field: value}
    response = await save(admin, **given)
    assert response.status == 422
    page = await response.text()
    (wrong,) = re.findall(rf'<p id="{field}-wrong" class="wrong">(.*?)</p>', page)
    assert said in wrong
    assert f'aria-describedby="{field}-wrong"' in page
    assert {name: fields(page)[name] for name in given} == given
    assert await ids(admin) == []


async def test_title_without_letters_requires_a_slug(admin: Client) -> None:
    response = await save(admin, title="🎉")
    assert response.status == 422
    assert "neither letters nor digits" in await response.text()
    assert (await save(admin, title="🎉", slug="party")).status == 303


async def test_titles_may_repeat_and_slugs_may_not(admin: Client) -> None:
    await save(admin)
    await save(admin)
    first, second = [(await form_of(admin, id_))["slug"] for id_ in reversed(await ids(admin))]
    assert (first, second) == (SLUG, f"{SLUG}-2")
    response = await save(admin, slug=SLUG)
    assert response.status == 422
    assert ">Is taken.<" in await response.text()


async def test_stale_version_is_409_and_the_form_shows_the_other_one(admin: Client) -> None:
    await save(admin)
    (id_,) = await ids(admin)
    typed = await form_of(admin, id_)
    assert (await save(admin, str(id_), **typed | {"body": "Hers."})).status == 303
    response = await save(admin, str(id_), **typed | {"body": "His."})
    assert response.status == 409
    page = await response.text()
    assert "Somebody else has changed this meanwhile." in page
    assert '<pre dir="auto">Hers.</pre>' in page
    assert fields(page)["body"] == "His."
    assert (await form_of(admin, id_))["body"] == "Hers."

    assert (await save(admin, str(id_), **fields(page))).status == 303  # after reading the warning
    assert (await form_of(admin, id_))["body"] == "His."
    for version in (typed["version"], "x", ""):
        async with admin.post(f"/admin/news/{id_}/delete", data={"version": version}) as response:
            assert response.status == 409
    assert await ids(admin) == [id_]


async def test_deleted_item_is_409_and_can_be_saved_again(admin: Client) -> None:
    await save(admin)
    (id_,) = await ids(admin)
    typed = await form_of(admin, id_)
    gone = await admin.post(f"/admin/news/{id_}/delete", data={"version": typed["version"]})
    assert gone.status == 200
    again = await admin.post(f"/admin/news/{id_}/delete", data={"version": typed["version"]})
    assert again.status == 404
    response = await save(admin, str(id_), **typed)
    assert response.status == 409
    page = await response.text()
    assert "deleted this meanwhile" in page
    assert 'action="/admin/news/new"' in page
    assert (await save(admin, **fields(page))).status == 303
    assert len(await ids(admin)) == 1


async def test_saving_is_completed_when_the_client_leaves(
    admin: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reached, opened = asyncio.Event(), asyncio.Event()
    right = store.save

    async def held_up(session: AsyncSession, draft: Draft, item: Item | None = None) -> Item:
        reached.set()
        await opened.wait()
        return await right(session, draft, item)

    monkeypatch.setattr(store, "save", held_up)
    async with admin.app[BUS].subscribe(EVERYBODY) as messages:
        leaving = asyncio.create_task(save(admin, publish="now"))
        await until(reached.is_set)
        leaving.cancel()
        await until(lambda: "cancelled: POST /admin/news/new" in caplog.text)
        opened.set()
        async with asyncio.timeout(TIMEOUT):
            message = await anext(messages)
    assert (message["type"], message["change"], message["title"]) == ("news", "published", TITLE)
    assert await public(admin) == 200


async def test_list_has_pages(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    # % filter replace("package_name", cookiecutter.package_name)
    monkeypatch.setattr("package_name.news.lists.PAGE_SIZE", 2)
    # % endfilter
    for number in range(3):
        await save(admin, title=f"number {number}")
    async with admin.get("/admin/news/") as response:
        page = await response.text()
    assert "number 2" in page
    assert "number 0" not in page
    (older,) = re.findall(r'href="(/admin/news/\?before=\d+)"', page)
    async with admin.get(older) as response:
        page = await response.text()
    assert "number 0" in page
    assert "before=" not in page
    for before in ("x", "-1", "9" * 30, "१"):
        async with admin.get("/admin/news/", params={"before": before}) as response:
            assert response.status == 400
    async with admin.get("/admin/news/999999999999999999") as response:
        assert response.status == 404
