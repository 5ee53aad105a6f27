"""Escaping of untrusted text: the one definition of a printable character, for logs, errors and output."""

from __future__ import annotations

import re
import unicodedata

#: Invisible characters that `str.isprintable` accepts, of the Default_Ignorable_Code_Point of Unicode 16
#: (DerivedCoreProperties.txt): variation selectors, fillers and joiners.  They can hide text.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def is_printable(character: str) -> bool:
    """Return whether a character is visible: not a control character (C0, DEL, C1), line separator, bidirectional
    control (CVE-2021-42574), zero-width character, surrogate or unassigned code point."""
    return character.isprintable() and _INVISIBLE.match(character) is None


def escape(text: str) -> str:
    r"""Return `text` as one line of printable characters: it cannot forge a log line or control a terminal.

    Other characters are written as escapes, such as ``\n``, ``\x1b`` or ``\u202e``."""
    if text.isprintable() and (text.isascii() or _INVISIBLE.search(text) is None):
        return text
    # One table for all characters: a call for each would take seconds for a megabyte of control characters.
    return text.translate({ord(each): _escaped(each) for each in set(text) if not is_printable(each)})


def escape_text(text: str) -> str:
    """Return `text` escaped as by `escape`, but keep tabs, line feeds and the spaces of other scripts."""
    return text.translate({ord(each): _escaped(each) for each in set(text) if not _is_text(each)})


def _is_text(character: str) -> bool:
    return is_printable(character) or character in "\t\n" or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]
