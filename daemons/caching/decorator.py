"""Results of a function, kept in a cache."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from daemons.caching.cache import Cache
from daemons.caching.keys import as_json, key

P = ParamSpec("P")
T = TypeVar("T")

_default: Cache | None = None
_default_lock = threading.Lock()


def default_cache() -> Cache:
    """Return the cache on this machine, at the default port of memcached; the same one for all callers."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Cache()
        return _default


class Cached(Generic[P, T]):
    """A function with results kept in a cache."""

    def __init__(self, function: Callable[P, T], prefix: str, ttl: float, cache: Cache | None) -> None:
        key(prefix)  # an invalid prefix is reported now
        functools.update_wrapper(self, function)
        self._function = function
        self._prefix = prefix
        self._ttl = ttl
        self._cache = cache

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        value: T = self.cache.get_or_compute(
            self.key(*args, **kwargs), self._ttl, lambda: self._function(*args, **kwargs)
        )
        return value

    @property
    def cache(self) -> Cache:
        return self._cache or default_cache()

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of the result for these arguments.  Raises `TypeError` if JSON cannot express them."""
        parts = [as_json(each) for each in args]
        return key(self._prefix, *parts, *([as_json(kwargs)] if kwargs else []))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result for these arguments, since it has changed; return whether it was there."""
        return self.cache.delete(self.key(*args, **kwargs))


def cached(prefix: str, ttl: float, cache: Cache | None = None) -> Callable[[Callable[P, T]], Cached[P, T]]:
    """Decorator: keep the results of a function in a cache.

        @cached("user", ttl=300)
        def user(number: int) -> dict[str, str]: ...

        user(19)                # computed once in five minutes, and read from the cache otherwise
        user.invalidate(19)     # after a change

    Arguments and results must be expressible in JSON; results are returned as JSON transmits them, also when they have
    just been computed.  While the cache is down, each call computes its result.

    Args:
        prefix: distinguishes the keys of this function; change it with the meaning of the results
        ttl: seconds until a result is computed again
        cache: by default that on this machine, 127.0.0.1:11211

    Raises `ValueError` for an invalid prefix.
    """

    def decorate(function: Callable[P, T]) -> Cached[P, T]:
        return Cached(function, prefix, ttl, cache)

    return decorate
