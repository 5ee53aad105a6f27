"""JSON, read strictly (RFC 8259) and within limits, and written."""

from __future__ import annotations

import gc
import json
import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import accumulate
from typing import Any

#: Maximum nesting depth of brackets.
DEPTH = 100

#: Escape of a surrogate, paired or not: RFC 8259, section 7.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"\\.", re.DOTALL)

#: Translation table of the nesting depth: 1 for an opening bracket, -1 (as a signed byte) for a closing one.
_STEPS = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def read(text: bytes, depth: int = DEPTH) -> Any:
    """Return the value of a JSON text.

    Raises `ValueError` for malformed text, and for values on which parsers disagree: a duplicate name in an object,
    NaN and the infinities, integers beyond Python's digit limit (4300), unpaired surrogates, and more than `depth`
    nested brackets."""
    has_many = text.count(b"[") + text.count(b"{") > depth
    if has_many and _depth(text) > depth:
        raise ValueError(f"more than {depth} nested brackets")
    try:
        with uncollected() if has_many else nullcontext():
            value = _DECODER.decode(text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("too many nested brackets") from error
    if _SURROGATE.search(text):
        _check_halves(value)
    return value


def write(value: Any) -> str:
    """Return `value` as a JSON text in ASCII, on one line and without spaces.  Raises `ValueError`, `TypeError` or
    `RecursionError` for a value without a JSON representation."""
    text = _write(value)
    if "\\ud" in text:
        _check_halves(value)
    return text


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    A parsed text has no cycles, but may have a hundred thousand containers.  The collector would run hundreds of times
    and examine all objects of the process at least once, which takes longer than parsing.  If several threads parse,
    the first one to finish enables the collector."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_halves(value: Any) -> None:
    """Raise `UnicodeError`, a subclass of `ValueError`, for an unpaired surrogate."""
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def _depth(text: bytes) -> int:
    """Return the nesting depth of brackets, without a loop in Python, since a text may have a million of them."""
    # Every other piece is inside quotes.
    outside = b"".join(_ESCAPE.sub(b"", text).split(b'"')[::2])
    steps = array("b", outside.translate(_STEPS, _NO_BRACKETS))
    return max(accumulate(steps), default=0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name in an object")
    return found


def _float(text: str) -> float:
    number = float(text)
    if number - number:  # NaN, which is true, for an infinity
        raise ValueError(f"{text[:20]} exceeds the range of a double")
    return number


def _constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
# A cyclic value raises `RecursionError`; checking for cycles beforehand costs more.
_write = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode
