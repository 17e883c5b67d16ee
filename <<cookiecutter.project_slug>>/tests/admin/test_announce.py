import pytest
from aiohttp import hdrs

# % filter replace("package_name", cookiecutter.package_name)
from package_name.live import BUS, EVERYBODY
from package_name.live.sockets import PROTOCOL

from ..helpers import TIMEOUT, Client, own

# % endfilter
LONGEST = "ä" * 500


async def test_announcement_requires_a_session(client: Client) -> None:
    assert client.app
    async with client.app[BUS].subscribe(EVERYBODY) as messages:
        form = {"text": "hello"}
        async with client.post("/admin/announce", data=form, headers=own(client)) as response:
            assert response.status == 401
        await client.app[BUS].publish(EVERYBODY, "the end")
        assert await anext(messages) == "the end"


@pytest.mark.parametrize("form", [{}, {"text": " \n"}, {"text": LONGEST + "ä"}])
async def test_announcement_that_is_empty_or_too_long_is_422(
    admin: Client, form: dict[str, str]
) -> None:
    async with admin.post("/admin/announce", data=form) as response:
        assert response.status == 422
        (error,) = (await response.json())["errors"]
        assert error["pointer"] == "#/text"
        assert "1 to 500 characters" in error["detail"]


@pytest.mark.parametrize("text", ["Back in 5 minutes ☕", "</script>\0", LONGEST])
async def test_announcement_reaches_every_visitor(admin: Client, text: str) -> None:
    async with (
        admin.ws_connect("/live", protocols=(PROTOCOL,)) as one,
        admin.ws_connect("/live", protocols=(PROTOCOL,)) as two,
    ):
        form = {"text": f" {text}\n"}
        async with admin.post("/admin/announce", data=form, allow_redirects=False) as response:
            assert response.status == 303
            assert response.headers[hdrs.LOCATION] == "/admin/"
        for ws in (one, two):
            got = await ws.receive_json(timeout=TIMEOUT)
            assert got == {"type": "announcement", "text": text}
