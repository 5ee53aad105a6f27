"""Words of a command line: keys and numbers, and the replies to invalid ones."""

from __future__ import annotations

import re

#: Bytes of the longest key.
LONGEST_KEY = 250

ERROR = b"ERROR\r\n"
BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BAD_CHUNK = b"CLIENT_ERROR bad data chunk\r\n"
BAD_EXPTIME = b"CLIENT_ERROR invalid exptime argument\r\n"
BAD_DELTA = b"CLIENT_ERROR invalid numeric delta argument\r\n"
NON_NUMERIC = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
BAD_DELETE = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"

#: A word that is not a key: one with control characters, or a longer one.
NO_KEY = re.compile(rb"[^ ]*[\x00-\x1f\x7f]|[^ ]{251}")

#: A number as strtol(3) reads it, up to white space, a null byte or the end.
NUMBER = re.compile(rb"[\t-\r ]*([+-]?\d{1,20})(?![^\t-\r \0])")


def number(text: bytes, least: int, most: int) -> int | None:
    """Return the number that `text` is, or begins with; None if there is none in the range."""
    match = NUMBER.match(text)
    if match is None:
        return None
    value = int(match[1])
    return value if least <= value <= most else None


def unsigned32(text: bytes) -> int | None:
    return number(text, 0, 2**32 - 1)


def signed32(text: bytes) -> int | None:
    return number(text, -(2**31), 2**31 - 1)


def unsigned64(text: bytes) -> int | None:
    return number(text, 0, 2**64 - 1)


def is_length(text: bytes) -> bool:
    """Return whether `text` is a length of a block of data that memcached accepts: up to 2 GiB less 3 bytes."""
    return number(text, 0, 2**31 - 3) is not None


def is_key(word: bytes) -> bool:
    """Return whether `word` may be a key: 1 to 250 bytes, no control characters and no space."""
    return len(word) <= LONGEST_KEY and NO_KEY.match(word) is None


def split(line: bytes) -> list[bytes]:
    """Return the words of a command line, which are separated by spaces."""
    return [word for word in line.removesuffix(b"\n").removesuffix(b"\r").split(b" ") if word]
