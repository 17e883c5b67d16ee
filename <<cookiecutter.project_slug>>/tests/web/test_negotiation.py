import pytest
from aiohttp import hdrs

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web.negotiation import best_match, parse_accept

from ..helpers import Client


# % endfilter
def test_parse_accept_leaves_out_ranges_with_malformed_weights() -> None:
    assert parse_accept("a/b;q=2, c/d;q=x, e/f;level=1;q=0.5,, g/h") == {"e/f": 0.5, "g/h": 1.0}


def test_parse_accept_reads_no_header_of_more_than_4096_characters() -> None:
    assert len(parse_accept(",".join(f"a/{i:06}" for i in range(455)))) == 455
    assert parse_accept(",".join(f"a/{i:06}" for i in range(456))) == {}


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ("text/*, text/html;q=0.2", "text/plain"),  # the most specific range wins
        ("text/*", "text/html"),  # the first on a tie
        ("", "text/html"),
        ("image/png", None),
    ],
)
def test_best_match(accept: str, best: str | None) -> None:
    assert best_match(accept, ("text/html", "text/plain")) == best


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/html"),
        ("*/*", "text/html"),
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html, application/json;q=0.9", "text/html"),
        ("text/*;q=0.1, application/*;q=0.2", "application/json"),
        ("*/*, text/html;q=0", "application/json"),
        ("APPLICATION/JSON", "application/json"),
    ],
)
async def test_negotiated_response_is_what_the_client_prefers(
    client: Client, accept: str | None, content_type: str
) -> None:
    headers = {} if accept is None else {hdrs.ACCEPT: accept}
    async with client.get("/about", headers=headers, skip_auto_headers=[hdrs.ACCEPT]) as response:
        assert response.status == 200
        assert response.content_type == content_type
        assert hdrs.ACCEPT in response.headers[hdrs.VARY]


@pytest.mark.parametrize("accept", ["image/png", "text/html;q=0", "*/*;q=0"])
async def test_negotiated_gives_406_when_nothing_is_acceptable(client: Client, accept: str) -> None:
    async with client.get("/about", headers={hdrs.ACCEPT: accept}) as response:
        assert response.status == 406
        assert (await response.json())["detail"] == "Available as text/html and application/json."
        assert hdrs.ACCEPT in response.headers[hdrs.VARY]
