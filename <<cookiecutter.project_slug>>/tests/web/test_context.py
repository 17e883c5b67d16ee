import pytest
from pytest_aiohttp import AiohttpClient

# % filter replace("package_name", cookiecutter.package_name)
from package_name.app import create_app


# % endfilter
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("made-by-the-proxy.1", True),
        ("", False),
        ("a b", False),
        ("x" * 129, False),
        ("<script>", False),
        ('a"b', False),
        ("é", False),
    ],
)
async def test_request_id_of_a_trusted_proxy_is_kept_if_well_formed(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, sent: str, kept: bool
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    client = await aiohttp_client(create_app())
    async with client.get("/livez", headers={"X-Request-ID": sent}) as response:
        assert response.status == 200
        request_id = response.headers["X-Request-ID"]
    assert request_id == sent if kept else len(request_id) == 32
