"""Whatever the text is, a terminal that is given it obeys nothing but colours."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trikernel.system import harmless


def obeyed(text: str) -> list[str]:
    """What a terminal would obey: every control function, parsed as ECMA-48 and xterm do."""
    found, position = [], 0
    while position < len(text):
        start = position
        code = ord(text[position])
        position += 1
        if text[start] in "\n\t" or not (code < 0x20 or 0x7F <= code < 0xA0):
            continue
        if text[start] == "\x1b" and text[position : position + 1] == "[":
            position += 1
            while position < len(text) and 0x20 <= ord(text[position]) < 0x40:
                position += 1
            position += 1
        found.append(text[start:position])
    return found


def is_colour(sequence: str) -> bool:
    return sequence[-1] == "m" and not set(sequence[2:-1]) - set("0123456789;:")


ESCAPES = (
    "\x1b|\x1b[|\x1b]|\x1bP|\x9b|\x9d|\x90|\x07|\x1b\\|\x9c|\r|\b|\x1b[31m|\x1b[0m|\x1b[38:2::1:2:3m|"
    "\x1b[>4;2m|\x1b[?25l|\x1b[2J|\x1b[6n|\x1b]52;c;aGk=\x07|\x1bP+q\x1b\\|\x1b[1;1H|\x1bc|\x1b(0|m|3|;|text"
)
PIECES = st.sampled_from(ESCAPES.split("|"))
TEXTS = st.lists(PIECES | st.text(max_size=3)).map("".join)


@given(TEXTS)
def test_nothing_is_obeyed_but_colours(text: str) -> None:
    assert all(is_colour(one) for one in obeyed(harmless(text, colours=True)))


@given(TEXTS)
def test_without_colours_nothing_is_obeyed(text: str) -> None:
    assert obeyed(harmless(text, colours=False)) == []


@given(TEXTS, TEXTS)
def test_a_sequence_that_is_cut_in_two_is_harmless_too(first: str, second: str) -> None:
    """Each half made harmless by itself: joined again, they are no sequence either."""
    joined = harmless(first, colours=True) + harmless(second, colours=True)
    assert all(is_colour(one) for one in obeyed(joined))


@given(TEXTS, st.booleans())
def test_what_is_harmless_stays_as_it_is(text: str, colours: bool) -> None:
    once = harmless(text, colours)
    assert harmless(once, colours) == once


@given(st.text())
def test_text_without_control_characters_is_untouched(text: str) -> None:
    plain = "".join(one for one in text if unicodedata.category(one) not in ("Cc", "Zl", "Zp"))
    assert harmless(plain, colours=False) == plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc\r\nd", "a\tb\nc\nd"),
        ("\x1b[1;31mred\x1b[m", "\x1b[1;31mred\x1b[m"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("\x1b[6n\x1b[2J\x1bc", "␛[6n␛[2J␛c"),
        ("\x9b31m\x90q\x9c", "\\x9b31m\\x90q\\x9c"),
        ("\x1b[>4;2m", "␛[>4;2m"),
        ("x\by\rz\x7f\x00", "x␈y␍z␡␀"),
        ("a\u2028b", "a\\u2028b"),
        ("\x1b[" + "1;" * 100 + "m", "␛[" + "1;" * 100 + "m"),
    ],
)
def test_the_rest_is_shown(text: str, shown: str) -> None:
    assert harmless(text, colours=True) == shown


def test_colours_go_where_they_are_not_wanted() -> None:
    assert harmless("\x1b[1;31mred\x1b[m \x1b[K", colours=False) == "red ␛[K"
