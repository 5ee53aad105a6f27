"""Character encoding of an XML document: byte order mark, XML declaration, or UTF-8 (XML 1.0, section 4.3.3).

expat asks Python's codec registry for any encoding that it does not support itself.  CPython caches every requested
name, found or not, until the process ends, and the registry has codecs that are not character encodings, such as
`unicode_escape`.  So documents are decoded here, by a fixed table, and expat parses text: then it ignores the
declaration and never asks.
"""

from __future__ import annotations

import codecs
import re

#: Codec for each name accepted in a declaration, in lower case.  XML 1.0 requires UTF-8 and UTF-16; expat knows
#: US-ASCII and ISO-8859-1 as well.  Some clients write the other spellings.
CODECS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-16": "utf-16",
    "utf16": "utf-16",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "iso8859-1": "latin-1",
    "latin-1": "latin-1",
    "latin1": "latin-1",
}

EXPECTED = "utf-8, utf-16, us-ascii or iso-8859-1 is expected"

#: Maximum length of an XML declaration.  The longest sensible one has 70 characters.
LONGEST_DECLARATION = 256

_BLANK = r"[ \t\r\n]"
_DECLARATION = re.compile(
    rf"<\?xml{_BLANK}+version{_BLANK}*={_BLANK}*(?:'1\.[0-9]+'|\"1\.[0-9]+\")"
    rf"(?:{_BLANK}+encoding{_BLANK}*={_BLANK}*(?:'(?P<single>[A-Za-z][A-Za-z0-9._-]*)'|"
    rf"\"(?P<double>[A-Za-z][A-Za-z0-9._-]*)\"))?"
    rf"(?:{_BLANK}+standalone{_BLANK}*={_BLANK}*(?:'(?:yes|no)'|\"(?:yes|no)\"))?{_BLANK}*\?>"
)


class UnreadableError(Exception):
    """A document is not a call.  The text gives the reason and may be sent to the caller."""


def decode(document: bytes) -> str:
    """Return the text of an XML document, without its byte order mark.

    Raises `UnreadableError` for an encoding that is not in `CODECS` or that contradicts the first bytes, and for bytes
    that the encoding does not allow.
    """
    if document.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode_utf16(document, "utf-16")
    if document[:2] in (b"<\0", b"\0<"):
        return _decode_utf16(document, "utf-16-le" if document[:1] == b"<" else "utf-16-be")
    marked = document.startswith(codecs.BOM_UTF8)
    if marked:
        document = document[len(codecs.BOM_UTF8) :]
    codec = declared_codec(document[:LONGEST_DECLARATION].decode("latin-1")) or "utf-8"
    if codec == "utf-16" or (marked and codec != "utf-8"):
        raise UnreadableError("not XML: the declared encoding contradicts the first bytes")
    return _decode(document, codec)


def declared_codec(beginning: str) -> str | None:
    """Return the codec that the XML declaration names, or None without a declaration or without a name in it.

    Raises `UnreadableError` for a name that is not in `CODECS` and for a malformed declaration."""
    if not beginning.startswith("<?xml") or beginning[5:6] not in (" ", "\t", "\r", "\n"):
        return None
    match = _DECLARATION.match(beginning[:LONGEST_DECLARATION])
    if match is None:
        raise UnreadableError("not XML: a malformed XML declaration; <?xml version='1.0'?> is expected")
    name = match["single"] or match["double"]
    if name is None:
        return None
    codec = CODECS.get(name.lower())
    if codec is None:
        raise UnreadableError(f"not XML: the encoding {name[:40]!r} is not accepted; {EXPECTED}")
    return codec


def _decode_utf16(document: bytes, codec: str) -> str:
    text = _decode(document, codec)
    if declared_codec(text[:LONGEST_DECLARATION]) not in (None, "utf-16"):
        raise UnreadableError("not XML: the declared encoding contradicts the first bytes")
    return text


def _decode(document: bytes, codec: str) -> str:
    try:
        return document.decode(codec)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"not XML: byte {error.start} is not {error.encoding}") from None
