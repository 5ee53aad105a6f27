"""JSON, read strictly (RFC 8259) and within bounds, and written."""

from __future__ import annotations

import gc
import json
import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from typing import Any

#: Brackets within brackets.
DEPTH = 100

#: An escape that is half of a character, or one of two halves: RFC 8259, section 7.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"\\.", re.DOTALL)

#: Of all octets the brackets alone: 1 for one that opens, -1 for one that closes.
_STEPS = bytes(1 if octet in b"[{" else 255 if octet in b"]}" else 0 for octet in range(256))
_NO_BRACKETS = bytes(octet for octet in range(256) if octet not in b"[]{}")


def read(text: bytes, depth: int = DEPTH) -> Any:
    """The value of a JSON text.  Raises `ValueError`: it is none; or what readers do not agree about, or cannot hold: a
    name that comes twice in an object, NaN and the infinities, numbers of more digits than Python takes (4300), half of
    a character, more than `depth` brackets within each other."""
    has_many = text.count(b"[") + text.count(b"{") > depth
    if has_many and _depth(text) > depth:
        raise ValueError(f"more than {depth} brackets within each other")
    try:
        with uncollected() if has_many else nullcontext():
            value = _DECODER.decode(text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("too many brackets within each other") from error
    if _SURROGATE.search(text):
        _check_halves(value)
    return value


def write(value: Any) -> str:
    """`value` as a JSON text in ASCII, without blanks and in one line.  Raises `ValueError`, `TypeError` or
    `RecursionError` for what has none."""
    text = _write(value)
    if "\\ud" in text:
        _check_halves(value)
    return text


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the cyclic garbage collector.  A parsed text has no cycles, but may have a hundred thousand containers:
    meanwhile the collector would run hundreds of times, and examine all objects of the process at least once, which
    takes longer than the parsing.  In several threads at once, the collector is on again when the first one ends."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_halves(value: Any) -> None:
    """Raises `UnicodeError`, which is a `ValueError`, for half of a character."""
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def _depth(text: bytes) -> int:
    """Brackets within brackets.  Without a loop in Python: there may be a million."""
    # Every other piece stands in quotes.
    outside = b"".join(_ESCAPE.sub(b"", text).split(b'"')[::2])
    steps = array("b", outside.translate(_STEPS, _NO_BRACKETS))
    return max(accumulate(steps), default=0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _float(text: str) -> float:
    number = float(text)
    if number - number:  # an infinity less itself is no number, which is true
        raise ValueError(f"{text[:20]} is larger than any number")
    return number


def _constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
# What holds itself comes to a `RecursionError`; to look for that beforehand costs more.
_write = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode
