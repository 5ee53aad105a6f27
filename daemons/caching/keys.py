"""Keys that are valid for any arguments."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

#: Bytes of the longest key of memcached.
LONGEST = 250

#: Bytes that a part of a key contains unquoted: all printable ones of ASCII but the percent sign, which quotes, and the
#: colon, which separates parts.
PLAIN = "".join(chr(code) for code in range(33, 127) if chr(code) not in "%:")


def key(prefix: str, *parts: Any) -> str:
    """Return a key for a value: ``user:19``, ``page:/node/14``.

    Different arguments have different keys, except that a text and an equal number in JSON have the same.  Spaces,
    control characters and other letters than those of ASCII are quoted as in URLs.  A key of more than 250 bytes is
    replaced by its SHA-256, behind the prefix.

    Args:
        prefix: names the program, so that no other program uses the same keys
        parts: texts, which are used as they are, and other values, as JSON

    Raises `TypeError` for a part that JSON cannot express, and `ValueError` for an empty prefix or one that is longer
    than 100 bytes.
    """
    start = quote(prefix, safe=PLAIN)
    if not 0 < len(start) <= 100:
        raise ValueError(f"{prefix!r}: not a prefix; 1 to 100 bytes are expected")
    whole = ":".join([start, *(quote(each if isinstance(each, str) else as_json(each), safe=PLAIN) for each in parts)])
    if len(whole) <= LONGEST:
        return whole
    return f"{start}:sha256:{hashlib.sha256(whole.encode('ascii')).hexdigest()}"


def as_json(value: Any) -> str:
    """Return a value as JSON, the same for equal values.  Raises `TypeError` or `ValueError`."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
