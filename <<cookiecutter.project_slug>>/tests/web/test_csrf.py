import pytest
from multidict import CIMultiDict, CIMultiDictProxy

# % filter replace("package_name", cookiecutter.package_name)
from package_name.web import csrf

# % endfilter
SITE = "https://example.com"
SEC_FETCH_SITE = "Sec-Fetch-Site"


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        # Current browsers, over TLS.
        ([(SEC_FETCH_SITE, "same-origin"), ("Origin", "https://example.com")], True),
        ([(SEC_FETCH_SITE, "none")], True),  # typed, or from a bookmark
        ([(SEC_FETCH_SITE, "cross-site"), ("Origin", "https://evil.example")], False),
        ([(SEC_FETCH_SITE, "same-site"), ("Origin", "https://evil.example.com")], False),
        ([(SEC_FETCH_SITE, "cross-site"), ("Origin", "http://example.com")], False),  # without TLS
        ([(SEC_FETCH_SITE, "same-origin"), (SEC_FETCH_SITE, "cross-site")], False),
        ([(SEC_FETCH_SITE, "same-origin"), (SEC_FETCH_SITE, "same-origin")], False),
        ([(SEC_FETCH_SITE, "same-origin"), ("Origin", SITE), ("Origin", SITE)], False),
        ([(SEC_FETCH_SITE, "nonsense")], False),
        ([(SEC_FETCH_SITE, "")], False),
        # Older browsers, and all browsers without TLS.
        ([("Origin", "https://example.com")], True),
        ([("Origin", "https://EXAMPLE.com:443")], True),
        ([("Origin", "https://evil.example")], False),
        ([("Origin", "https://example.com.evil.example")], False),
        ([("Origin", "https://evil.example.com")], False),
        ([("Origin", "https://example.com:8443")], False),
        ([("Origin", "http://example.com")], False),
        ([("Origin", "null")], False),  # a sandboxed frame, a data: URL
        ([("Origin", "")], False),
        ([("Origin", "https://[")], False),
        ([("Origin", "http://xn--")], False),
        ([("Origin", "https://xn--.example.com")], False),
        ([("Origin", "https://example.com"), ("Origin", "https://evil.example")], False),
        ([("Origin", "https://example.com"), ("Origin", "https://example.com")], False),
        ([("Origin", "https://example.com, https://example.com")], False),
        ([("Origin", "https://" + "".join(map(chr, range(0x4E00, 0x5880))))], False),
        ([("Origin", "https://\udcff.example")], False),
        ([("Origin", "https://evil.example"), ("Referer", "https://example.com/")], False),
        # Even older browsers, which do not send Origin.
        ([("Referer", "https://example.com/admin/?a=b")], True),
        ([("Referer", "https://evil.example/https://example.com/")], False),
        ([("Referer", "https://example.com@evil.example/")], False),
        ([("Referer", "https://" + "".join(map(chr, range(0x4E00, 0x5880))) + "/")], False),
        ([("Referer", "http://xn--/")], False),
        ([("Referer", "https://example.com/"), ("Referer", "https://example.com/")], False),
        ([("Cookie", "session=x")], False),  # an attacker's page that hides its origin
        # Programs.
        ([], True),
    ],
)
def test_is_own_tells_own_pages_and_programs_from_other_sites(
    headers: list[tuple[str, str]], own: bool
) -> None:
    assert csrf.is_own(CIMultiDictProxy(CIMultiDict(headers)), SITE) is own
