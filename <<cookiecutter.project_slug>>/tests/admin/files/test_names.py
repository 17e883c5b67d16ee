import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.admin.files.names import attachment, safe_name


# % endfilter
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("a b (1).tar.gz", "a b (1).tar.gz"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\report.pdf", "report.pdf"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("/", "unnamed"),
        (". . .", "unnamed"),
        (".htaccess", "htaccess"),
        ("page.html.", "page.html"),
        ("page.html ", "page.html"),
        ("nul\0byte.txt", "nulbyte.txt"),
        ("two\r\nlines.txt", "twolines.txt"),
        ("CON", "CON_"),
        ("con.txt", "con_.txt"),
        (".LPT1", "LPT1_"),
        ("<a>:|?*.txt", "a.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),  # displayed as invoiceexe.pdf
        ("\u200d\u3164", "unnamed"),
        ("zwnj\u200c.txt", "zwnj\u200c.txt"),
        ("e\u0301.txt", "\u00e9.txt"),  # one letter, in either form
        ("\u65e5\u672c\u8a9e.txt", "\u65e5\u672c\u8a9e.txt"),
        ("\ud800\udcff.txt", "txt"),
        ("\u0301\u0316" * 2000, "\u0316" * 126),
        ("\u0f73" * 3000 + ".txt", "\u0f71" * 83 + ".txt"),
        ("x" * 300 + ".pdf", "x" * 249 + ".pdf"),
        ("\u00fc" * 300 + ".pdf", "\u00fc" * 124 + ".pdf"),
        ("x." + "y" * 300, "x." + "y" * 251),
    ],
)
def test_safe_name_is_valid_everywhere_and_stable(given: str, name: str) -> None:
    assert safe_name(given) == name
    assert len(name.encode()) <= 255  # the limit of most file systems
    assert safe_name(name) == name


def test_attachment_quotes_the_name_and_encodes_it_in_utf_8() -> None:
    assert attachment("a.txt") == "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"
    assert attachment('ä"%.txt') == (
        "attachment; filename=\"___.txt\"; filename*=UTF-8''%C3%A4%22%25.txt"
    )
