"""Escaping of text that peers and files supply."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from daemons.printable import escape, escape_text, is_printable


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nERROR forged\r\n", r"a\nERROR forged\r\n"),
        ("\x1b[2J\x00\x7f", r"\x1b[2J\x00\x7f"),
        ("\x85\x9b\u2028\u2029", r"\x85\x9b\u2028\u2029"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("user\u202etxt.exe\u2066", r"user\u202etxt.exe\u2066"),
        ("ad\u200bmin\ufeff\u2060\u00ad", r"ad\u200bmin\ufeff\u2060\xad"),
        ("ad\ufe0fmin\U000e0041\u3164", r"ad\ufe0fmin\U000e0041\u3164"),
        ("künstler 中 😀 \\n", "künstler 中 😀 \\n"),
    ],
)
def test_characters_that_forge_lines_drive_terminals_or_are_invisible_are_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_text_keeps_tabs_line_feeds_and_spaces() -> None:
    assert escape_text("a\tb\nc\xa0d\u3000e\r\x1b[m\u202e") == "a\tb\nc\xa0d\u3000e\\r\\x1b[m\\u202e"


def test_every_control_format_and_surrogate_character_of_unicode_is_escaped() -> None:
    suspect: list[str] = []
    others: list[str] = []
    for character in map(chr, range(sys.maxunicode + 1)):
        kind = unicodedata.category(character)
        (suspect if kind in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else others).append(character)
    assert not any(map(is_printable, suspect))
    assert escape("".join(suspect)).isascii()
    assert escape_text("".join(suspect).replace("\t", "").replace("\n", "")).isascii()
    printable = "".join(filter(is_printable, others))
    assert escape(printable) == printable


@pytest.mark.parametrize("character", ["\0", "\u202e", "\U000e0100", "a\0", "\u4e2d"])
def test_escaping_takes_no_call_for_each_character(character: str) -> None:
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += 1

    text = character * 1000
    for function in (escape, escape_text):
        sys.setprofile(count)
        try:
            function(text)
        finally:
            sys.setprofile(None)
    assert calls < 100
