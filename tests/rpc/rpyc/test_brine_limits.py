"""Limits of RPyC messages, checked before decoding."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpyc.core import brine

from daemons.rpc.rpyc.brine_limits import DEPTH, DIGITS, VALUES, check
from daemons.rpc.rpyc.frames import Refused


def nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth - 1):
        value = (value,)
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            False,
            0,
            -48,
            159,
            160,
            -49,
            10 ** (DIGITS - 1),
            0.5,
            "",
            "ÿ",
            "a" * 300,
            b"",
            b"a",
            b"ab",
            b"abc",
        ),
        *(b"abcd", b"abcde", b"a" * 300, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1,) * 5, (1,) * 300),
        *((1,) * (VALUES - 1), nested(DEPTH), ((), ((), ()))),
    ],
    ids=repr,
)
def test_value_within_the_limits_is_accepted(value: Any) -> None:
    check(brine.dump(value))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *(
            (brine.dump(value), "an unsupported type")
            for value in list[Any]([slice(1), frozenset((1,)), 1j, NotImplemented, Ellipsis, (1, (frozenset(), 2))])
        ),
        (b"\x08\x02", "an unsupported type"),
        (b"\x08\x08\x01", "an unsupported type"),
        (b"\xff", "an unsupported type"),
        (brine.dump((1,) * VALUES), f"more than {VALUES} values"),
        (b"\x15\xff\xff\xff\xff" + b"\x50" * 2000, f"more than {VALUES} values"),
        (brine.dump(nested(DEPTH + 1)), f"nested more than {DEPTH} deep"),
        (b"\x10" * 60_000, f"nested more than {DEPTH} deep"),
        (brine.dump(10**DIGITS), f"more than {DIGITS} digits"),
        (b"\x17\xff\xff\xff\xff", f"more than {DIGITS} digits"),
        *(
            (b"\x16\x03" + digits, "not written in digits")
            for digits in (b"1_0", b" 10", b"+10", b"--1", b"\xd9\xa1\xd9")
        ),
        (b"\x16\0", "not written in digits"),
        *(
            (data, "incomplete")
            for data in (b"", b"\x15", b"\x11\x50", b"\x0d123", b"\x18123", b"\x0f\xff\xff", b"\x08")
        ),
        (b"\x50\x50", "trailing bytes"),
    ],
    ids=range(29),
)
def test_message_beyond_the_limits_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        check(data)


@given(st.binary(max_size=40))
def test_accepted_message_is_one_value_of_brine(data: bytes) -> None:
    """brine decodes every accepted message completely, or finds text that is not UTF-8."""
    try:
        check(data)
    except Refused:
        return
    try:
        value: Any = brine.load(data)
    except UnicodeDecodeError:
        return
    check(brine.dump(value))
