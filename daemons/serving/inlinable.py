"""Marks the methods of servers that event-driven engines may inline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: Methods marked with `inlinable`.
INLINABLE: set[Callable[..., Any]] = set()


def inlinable(method: _Method) -> _Method:
    """Mark a method of this package.  Event-driven engines inline marked methods, unless a subclass overrides them."""
    INLINABLE.add(method)
    return method
