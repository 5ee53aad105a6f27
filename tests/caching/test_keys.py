"""Keys for any arguments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemons.cached.words import is_key
from daemons.caching import key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=50)
@given(prefix=st.text(min_size=1, max_size=8), parts=st.lists(JSON, max_size=4))
def test_a_key_is_valid_for_any_arguments(prefix: str, parts: list[Any]) -> None:
    made = key(prefix, *parts).encode("ascii")
    assert made
    assert is_key(made)


@settings(max_examples=50)
@given(first=st.lists(st.text(max_size=5), max_size=3), second=st.lists(st.text(max_size=5), max_size=3))
def test_different_texts_have_different_keys(first: list[str], second: list[str]) -> None:
    assert (key("a", *first) == key("a", *second)) == (first == second)


def test_a_key_can_be_read() -> None:
    assert key("user", 19) == "user:19"
    assert key("page", "/node/14") == "page:/node/14"
    assert key("sum", [1, 2], {"b": None, "a": True}) == 'sum:[1,2]:{"a"%3Atrue,"b"%3Anull}'


def test_a_key_of_250_bytes_is_kept_and_a_longer_one_hashed() -> None:
    assert key("a", "k" * 248) == "a:" + "k" * 248
    hashed = key("a", "k" * 249)
    assert hashed.startswith("a:sha256:")
    assert hashed != key("a", "k" * 250)


@pytest.mark.parametrize("prefix", ["", "p" * 101])
def test_an_invalid_prefix_is_a_value_error(prefix: str) -> None:
    with pytest.raises(ValueError, match="not a prefix"):
        key(prefix)


def test_a_part_that_json_cannot_express_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        key("a", object())
