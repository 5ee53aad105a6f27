"""Escaping of untrusted text: the one definition of a printable character, for logs, errors and output."""

from __future__ import annotations

import re
import unicodedata

#: Invisible characters that `str.isprintable` accepts, of the Default_Ignorable_Code_Point of Unicode 16
#: (DerivedCoreProperties.txt): variation selectors, fillers and joiners.  They can hide text.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")

_SUSPECT = re.compile(r"[^ -~]")


def is_printable(character: str) -> bool:
    """Return whether a character is visible: not a control character (C0, DEL, C1), line separator, bidirectional
    control (CVE-2021-42574), zero-width character, surrogate or unassigned code point."""
    return character.isprintable() and _INVISIBLE.match(character) is None


def escape(text: str) -> str:
    r"""Return `text` as one line of printable characters: it cannot forge a log line or control a terminal.

    Other characters are written as escapes, such as ``\n``, ``\x1b`` or ``\u202e``."""
    return _SUSPECT.sub(_escape, text)


def escape_text(text: str) -> str:
    """Return `text` escaped as by `escape`, but keep tabs, line feeds and the spaces of other scripts."""
    return _SUSPECT.sub(_escape_in_text, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return character if is_printable(character) else ascii(character)[1:-1]


def _escape_in_text(match: re.Match[str]) -> str:
    character = match[0]
    return character if character in "\t\n" or unicodedata.category(character) == "Zs" else _escape(match)
