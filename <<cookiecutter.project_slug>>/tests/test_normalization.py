import random
import unicodedata
from itertools import pairwise
from typing import Final, Literal

import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.normalization import PIECE, normalize

# % endfilter
Form = Literal["NFC", "NFKC"]
FORMS: Final[tuple[Form, ...]] = ("NFC", "NFKC")
NOT_SIMPLE = [
    character
    for character in map(chr, range(0x20000))
    if unicodedata.combining(character) or unicodedata.decomposition(character)
]
MARKS = [character for character in NOT_SIMPLE if unicodedata.combining(character)]
HOSTILE = {
    "marks out of order": "\u0301\u0316",
    "one mark, which is two": "\u0344",
    "no mark, which becomes two out of order": "\u0f73",
    "no mark, which becomes one": "\uff9e\u3099",
    "letters that become 18": "\ufdfa",
    "letters that become one and marks": "\u1f82\u0316",
    "marks of all classes": "".join(MARKS),
    "marks, and a letter too late": "\u0301\u0316" * 40 + "a",
}


@pytest.mark.parametrize("form", FORMS)
def test_normal_form_is_that_of_unicode(form: Form) -> None:
    some = random.Random(1)
    for character in NOT_SIMPLE:
        text = f"a{character}\u0301\u0316"
        assert normalize(form, text) == unicodedata.normalize(form, text)
    for size in [*range(60)] * 20:
        text = "".join(some.choices([*NOT_SIMPLE, *MARKS, *"aeo\uac00\u1100\u1161\u11a8"], k=size))
        assert normalize(form, text) == unicodedata.normalize(form, text)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_long_runs_of_marks_are_sorted_before_unicode_sorts_them(
    monkeypatch: pytest.MonkeyPatch, form: Form, unit: str
) -> None:
    """unicodedata.normalize() moves each mark past all earlier ones; check the input it gets."""
    given: list[str] = []

    def record(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
        given.append(text)
        return original(form, text)

    original = unicodedata.normalize
    text = (unit * 3000)[:3000]
    expected = original(form, text)
    with monkeypatch.context() as patched:
        patched.setattr(unicodedata, "normalize", record)
        assert normalize(form, text) == expected
    *pieces, whole = given
    assert all(len(piece) <= PIECE for piece in pieces)
    run: list[int] = []
    for character in whole + "a":
        if combining := unicodedata.combining(character):
            run.append(combining)
            continue
        assert len(run) < PIECE or all(first <= second for first, second in pairwise(run))
        run.clear()
