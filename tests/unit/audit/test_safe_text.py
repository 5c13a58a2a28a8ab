from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.audit.safe_text import safe, safe_json, safe_line

ANY = st.text(st.characters())


@given(ANY)
def test_safe_text_does_not_act(text: str) -> None:
    """Nothing in it moves a cursor, begins an escape sequence, or turns the direction of writing."""
    shown = safe(text)
    assert all(character in "\n\t" or ord(character) >= 0x20 for character in shown)
    assert not any(0x7F <= ord(character) <= 0x9F for character in shown)
    assert not any(character in "\u202e\u2066\u2028" for character in shown)
    shown.encode()


@given(ANY)
def test_safe_text_is_safe_already(text: str) -> None:
    """Doing it twice changes nothing."""
    assert safe(safe(text)) == safe(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\x7fb\x08", "a␡b␈"),
        ("\u202eevil", "\\u{202e}evil"),
        ("hidden\U000e0041", "hidden\\u{e0041}"),
        ("\ud800", "\\u{d800}"),
        ("line\r\nnext\rover", "line\nnext␍over"),
        ("emoji 👩‍🚀, Ünïcödé, 漢字", "emoji 👩‍🚀, Ünïcödé, 漢字"),
    ],
)
def test_what_acts_becomes_visible(text: str, shown: str) -> None:
    """Each acting character has a sign of its own; ordinary text of any language stays."""
    assert safe(text) == shown


def test_a_line_is_one_line() -> None:
    """White space of any kind becomes single spaces."""
    assert safe_line(" a\n\tb \r\n c ") == "a b c"


@given(st.dictionaries(ANY.map(lambda text: text.encode("utf-8", "replace").decode()), st.integers()))
def test_safe_json_means_the_same(value: dict[str, int]) -> None:
    """Escaping changes the bytes, not the value, and leaves nothing that acts."""
    text = safe_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert safe(text) == text
