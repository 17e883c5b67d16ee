import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web import hosts


# % endfilter
@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com.:8080", "example.com"),
        ("[::1]:80", "[::1]"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_host_name_is_lower_case_without_port(host: str, name: str) -> None:
    assert hosts.host_name(host) == name


@pytest.mark.parametrize(
    "host", ["a:b:c", "exa mple", "example.com:65536", "user@example.com", "example.com/", ""]
)
def test_host_name_refuses_malformed_hosts(host: str) -> None:
    with pytest.raises(ValueError, match="not a host"):
        hosts.host_name(host)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.com", ("https", "example.com", 443)),
        ("HTTP://Example.COM:80/?a", ("http", "example.com", 80)),
        ("http://[::1]:8080#a", ("http", "[::1]", 8080)),
        ("https://xn--mnchen-3ya.example/", ("https", "xn--mnchen-3ya.example", 443)),
    ],
)
def test_origin_of_a_url(url: str, origin: tuple[str, str, int]) -> None:
    assert hosts.origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        *("", "null", "example.com", "//example.com", "ftp://example.com", "https://", "https://["),
        *("https://user@example.com", "https://example.com\\", "https://example.com:port"),
        *("https://example.com, https://example.com", "https://example.com ", "http\u017f://a"),
        *("https://m\xfcnchen.example", "https://\u212a.example", "https://" + "\u5b57" * 2700),
        "https://" + "x" * 8000,
    ],
)
def test_url_without_an_origin_in_ascii_is_invalid(url: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        hosts.origin(url)


@pytest.mark.parametrize(
    ("name", "pattern", "allowed"),
    [
        ("example.com", "example.com", True),
        ("www.example.com", "example.com", False),
        ("www.example.com", "*.example.com", True),
        ("a.b.example.com", "*.example.com", True),
        ("example.com", "*.example.com", False),
        ("evilexample.com", "*.example.com", False),
        ("anything", "*", True),
    ],
)
def test_is_allowed_matches_names_and_wildcards(name: str, pattern: str, allowed: bool) -> None:
    assert hosts.is_allowed(name, [pattern]) is allowed
