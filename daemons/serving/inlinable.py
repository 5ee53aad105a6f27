"""Marks the methods of servers that event-driven engines may inline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: Methods marked with `inlinable`.
INLINABLE: set[Callable[..., Any]] = set()


def inlinable(method: _Method) -> _Method:
    """Mark a method whose steps an event-driven engine may do itself, in a function of its own, without calling it.

    `Loop.accept_many` and `Loop.end` do so unless a subclass has overridden one of the methods."""
    INLINABLE.add(method)
    return method
