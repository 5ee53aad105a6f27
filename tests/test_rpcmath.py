"""The functions of rpcmath, called in Python; over the network they are called in `tests/rpc`."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.rpcmath import addtogether, quadratic

things = st.one_of(
    st.lists(st.text(max_size=3), min_size=1),
    st.lists(st.binary(max_size=3), min_size=1),
    st.lists(st.lists(st.integers(), max_size=3), min_size=1),
    st.lists(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()), min_size=1),
)


@given(things)
def test_sum_is_that_of_one_addition_after_the_other(things: list[Any]) -> None:
    total, expected = addtogether(*things), reduce(operator.add, things)
    assert (total, type(total)) == (expected, type(expected))


@pytest.mark.parametrize("things", [("a", 1), ("a", b"a"), ([1], "a"), ([1], 2), (b"a", [97]), ({}, {}), (1, "a")])
def test_things_of_unlike_types_are_refused(things: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        addtogether(*things)


def test_things_of_types_that_can_be_added_are() -> None:
    assert addtogether(b"a", bytearray(b"b"), b"c") == b"abc"


@pytest.mark.parametrize(
    "numbers", [(1, 1e200, 1), (1e-320, 1.0, 0.0), (1.0, float("inf"), 1.0), (1.0, float("nan"), 1.0)]
)
def test_solutions_beyond_the_range_of_floats_are_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(OverflowError, match="math range error"):
        quadratic(*numbers)


def test_one_list_is_added_to_nothing_and_left_alone() -> None:
    first = [1]
    assert addtogether(first, [2]) == [1, 2]
    assert first == [1]
