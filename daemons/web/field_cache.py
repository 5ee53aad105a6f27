"""Cache for functions of a header field's value."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: Cached values per function, and characters of the longest: 64 KiB in all.  Browsers send few, short values; a hostile
#: client may send a different value of 16 KiB in each request.
VALUES, LONGEST = 256, 256


def field_cache(function: F) -> F:
    """Cache the results of `function` for the latest values, except for long values."""
    cached = lru_cache(maxsize=VALUES)(function)

    @wraps(function)
    def look_up(value: str | None, *arguments: Any) -> Any:
        return (cached if value is None or len(value) <= LONGEST else function)(value, *arguments)

    return look_up  # type: ignore[return-value]  # same signature
