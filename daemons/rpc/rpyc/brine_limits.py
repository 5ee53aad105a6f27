"""Limits of RPyC messages, checked before `rpyc.core.brine` decodes them.

brine decodes any content: sets of integers chosen to collide, which take quadratic time; integers of any length; tens
of thousands of values in 64 KiB.
"""

from __future__ import annotations

from typing import Final

from daemons.rpc.rpyc.frames import Refused

#: Maximum number of values in one message, including tuples.  A call has some thirty.
VALUES = 1000

#: Maximum nesting depth of tuples.
DEPTH = 32

#: Maximum digits of an integer, including the sign.  Conversion takes quadratic time; CPython does not limit shorter
#: integers either (sys.int_info.str_digits_check_threshold).
DIGITS = 640

#: Tags of brine: the single values None, b"", (), True, False; float and its size in bytes.
_SINGLES = frozenset(range(0x05))
_FLOAT, _FLOAT_SIZE = 0x18, 8
_UNICODE: Final = 0x08
#: Bytes and tuples of up to four items, by their tags.
_BYTES: Final = {0x0A: 1, 0x0B: 2, 0x0C: 3, 0x0D: 4}
_TUPLES: Final = {0x02: 0, 0x10: 1, 0x11: 2, 0x12: 3, 0x13: 4}
#: Size in bytes of the length that follows a tag.
_BYTES_LENGTHS: Final = {0x0E: 1, 0x0F: 4}
_TUPLE_LENGTHS: Final = {0x14: 1, 0x15: 4}
_INT_LENGTHS: Final = {0x16: 1, 0x17: 4}
#: One tag for each small integer.
_SMALL = range(0x20, 0xF0)


def check(data: bytes, most: int | None = None) -> None:
    """Raise `Refused` unless `data` is one value within the limits, composed of None, booleans, integers, floats, text,
    bytes and tuples.  `most` is a further limit of the number of values.  The check decodes no value, and takes time
    linear in their number."""
    try:
        end = _end_of_value(data, VALUES if most is None else min(most, VALUES))
    except IndexError:
        raise Refused("the message is incomplete") from None
    if end != len(data):
        raise Refused("the message is incomplete or has trailing bytes")


def _end_of_value(data: bytes, most: int) -> int:
    at, values = 0, 0
    #: Number of values still expected in each open tuple.
    open_ = [1]
    while open_:
        if not open_[-1]:
            open_.pop()
            continue
        open_[-1] -= 1
        values += 1
        if values > most:
            raise Refused(f"a message of more than {most} values")
        tag = data[at]
        at += 1
        if tag in _SMALL:
            continue
        if tag in _TUPLES or tag in _TUPLE_LENGTHS:
            size = _TUPLE_LENGTHS.get(tag, 0)
            open_.append(int.from_bytes(data[at : at + size], "big") if size else _TUPLES[tag])
            at += size
            if len(open_) > DEPTH + 1:
                raise Refused(f"a message with tuples nested more than {DEPTH} deep")
        elif tag in _SINGLES:
            pass
        elif tag == _FLOAT:
            at += _FLOAT_SIZE
        elif tag in _INT_LENGTHS:
            at = _end_of_int(data, at, _INT_LENGTHS[tag])
        elif tag == _UNICODE:
            at = _end_of_bytes(data, at + 1, data[at])
        else:
            at = _end_of_bytes(data, at, tag)
    return at


def _end_of_bytes(data: bytes, at: int, tag: int) -> int:
    if tag == 0x01:  # no bytes
        return at
    if size := _BYTES_LENGTHS.get(tag, 0):
        return at + size + int.from_bytes(data[at : at + size], "big")
    if tag not in _BYTES:
        raise Refused("a value of an unsupported type")
    return at + _BYTES[tag]


def _end_of_int(data: bytes, at: int, size: int) -> int:
    length = int.from_bytes(data[at : at + size], "big")
    if length > DIGITS:
        raise Refused(f"an integer of more than {DIGITS} digits")
    digits = data[at + size : at + size + length]
    if not digits.removeprefix(b"-").isdigit():
        raise Refused("an integer that is not written in digits")
    return at + size + length
