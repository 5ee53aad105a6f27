"""Character encodings of responses."""

from __future__ import annotations

import codecs
from contextlib import suppress

import httpx2

#: Byte order marks, which take precedence over any declaration (Encoding Standard, section 6, "BOM sniff").
MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

#: Python's text codecs that are not accepted, as in the Encoding Standard: they evaluate escapes, encode ASCII
#: differently, or fail on most input.
NOT_CHARSETS = frozenset(("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7", "utf-32"))

#: Maximum characters of a charset name, above the longest in the IANA registry: Python's codec registry caches every
#: name that is looked up.
LONGEST_NAME = 60

#: Maximum characters of a Content-Type that is parsed; with more, the time of `email.message`, which grows with the
#: square of the parameters, could reach seconds.
LONGEST_FIELD = 1000


def declared_by(response: httpx2.Response) -> str | None:
    """Return the codec for the charset in a response's Content-Type, None if it is missing or not supported."""
    if len(response.headers.get("Content-Type", "")) > LONGEST_FIELD:
        return None
    with suppress(ValueError, LookupError):  # raised by `email.message`, which parses the field
        return codec_of(response.charset_encoding)
    return None


def codec_of(declared: str | None) -> str | None:
    """Return Python's name of a declared charset, None if it is unknown or not a charset, such as zlib, rot13 and
    idna."""
    if not declared or len(declared) > LONGEST_NAME or not declared.isascii() or not declared.isprintable():
        return None
    try:
        b"a".decode(declared, "replace")  # raises LookupError for codecs that do not decode bytes to text
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):
        return None
    if name.replace("_", "-") in NOT_CHARSETS:
        return None
    # Without a byte order mark UTF-16 is little-endian (Encoding Standard); Python's codec requires a mark.
    return "utf-16-le" if name == "utf-16" else name


def marked(data: bytes) -> tuple[str, int] | None:
    """Return the codec for the byte order mark of `data` and the length of the mark; None without a mark."""
    return next(((name, len(mark)) for mark, name in MARKS if data.startswith(mark)), None)


def decode(data: bytes, declared: str | None = None) -> str:
    """Decode text by its byte order mark, else as declared, else as UTF-8; malformed bytes are replaced by U+FFFD."""
    name, length = marked(data) or (codec_of(declared) or "utf-8", 0)
    return data[length:].decode(name, "replace")
