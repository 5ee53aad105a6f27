"""Character encodings of responses."""

from __future__ import annotations

import codecs
from contextlib import suppress

import httpx2

#: Byte order marks, which are stronger than any declaration (Encoding Standard, section 6, "BOM sniff").
MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

#: Codecs of Python from bytes to text that the Encoding Standard does not have for good reason: they evaluate escapes,
#: hide ASCII, or fail on most input.
NOT_CHARSETS = frozenset(("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7", "utf-32"))

#: Characters of the longest name in the IANA's registry, and some to spare: the codec registry keeps every name that it
#: is asked for.
LONGEST_NAME = 60


def declared_by(response: httpx2.Response) -> str | None:
    """Return the codec for the charset in a response's Content-Type, None if there is none, or none of text."""
    with suppress(ValueError, LookupError):  # `email.message`, which parses the field, raises some of them
        return codec_of(response.charset_encoding)
    return None


def codec_of(declared: str | None) -> str | None:
    """Return Python's name of a declared character set, None if it is unknown or no character set, as zlib, rot13 and
    idna are."""
    if not declared or len(declared) > LONGEST_NAME or not declared.isascii() or not declared.isprintable():
        return None
    try:
        b"a".decode(declared, "replace")  # raises LookupError for codecs that are not from bytes to text
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):
        return None
    if name.replace("_", "-") in NOT_CHARSETS:
        return None
    # Without a mark UTF-16 is little-endian (Encoding Standard); Python's codec would refuse it.
    return "utf-16-le" if name == "utf-16" else name


def marked(data: bytes) -> tuple[str, int] | None:
    """Return the codec that the byte order mark of `data` stands for, and the length of the mark; None without one."""
    return next(((name, len(mark)) for mark, name in MARKS if data.startswith(mark)), None)


def decode(data: bytes, declared: str | None = None) -> str:
    """Decode text by its byte order mark, else as declared, else as UTF-8; what is malformed is replaced (U+FFFD)."""
    name, length = marked(data) or (codec_of(declared) or "utf-8", 0)
    return data[length:].decode(name, "replace")
