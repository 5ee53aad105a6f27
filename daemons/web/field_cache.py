"""Cache for functions of the value of a header field."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: Values that are kept per function, and characters of the longest: 64 KiB.  Browsers send few values, and short ones;
#: a peer may send an unlike one of 16 KiB with each request.
VALUES, LONGEST = 256, 256


def field_cache(function: F) -> F:
    """Keep the results of `function` for the latest values, except those of long values."""
    cached = lru_cache(maxsize=VALUES)(function)

    @wraps(function)
    def look_up(value: str | None, *arguments: Any) -> Any:
        return (cached if value is None or len(value) <= LONGEST else function)(value, *arguments)

    return look_up  # type: ignore[return-value]  # it takes and returns the same
