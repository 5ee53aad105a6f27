"""Values in a cache, which are computed where they are missing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from daemons.caching.keys import as_json
from daemons.caching.keys import key as key_of
from daemons.caching.servers import DEFAULT, TIMEOUT, Server, Servers

#: Seconds after which the computation of a value in another process counts as lost.
LOST = 30

#: Seconds between two looks for a value that another process computes; the first one, and the longest.
FIRST_LOOK, LONGEST_LOOK = 0.005, 0.1

#: Longest expiration time in seconds that is relative in memcached's protocol; a greater number is a Unix time.
LONGEST_RELATIVE = 60 * 60 * 24 * 30

#: Returned in place of a value that is not in the cache.
MISSING: Any = object()


class _Computation:
    """A computation of a value, for which other threads wait."""

    __slots__ = ("done", "error", "value")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None


class Cache:
    """Values by key, on one server or several.  Thread-safe.

    A value is anything that JSON can express.  JSON, not pickle: write access to the cache must not be enough to run
    code here.  So a tuple is returned as a list, and the keys of a dict as texts.

    If a server is down, slow or full, its values count as missing, and a value is not stored; nothing is raised.

    Args:
        servers: addresses, ``HOST:PORT``
        timeout: seconds to wait for a server
    """

    def __init__(self, servers: Sequence[str] = DEFAULT, timeout: float = TIMEOUT) -> None:
        self._servers = Servers(servers, timeout)
        self._lock = threading.Lock()
        self._computations: dict[str, _Computation] = {}
        #: Number of values found, and of values that were missing.
        self.hits = self.misses = 0

    @property
    def failures(self) -> int:
        """Number of calls that failed because a server did not answer."""
        return self._servers.failures

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or `default`."""
        server = self._servers.of(key)
        value = MISSING if server is None else self._read(server, key)
        self._count(value is not MISSING)
        return default if value is MISSING else value

    def set(self, key: str, value: Any, ttl: float) -> bool:
        """Store a value for `ttl` seconds; return whether that succeeded.

        Raises `TypeError` or `ValueError` if JSON cannot express it."""
        data = _encode(value)
        server = self._servers.of(key)
        return server is not None and self._write(server, key, data, ttl)

    def delete(self, key: str) -> bool:
        """Remove a value; return whether it was there."""
        server = self._servers.of(key)
        return server is not None and self._servers.attempt(server, lambda on: bool(on.call("delete", key)), False)

    def update(self, key: str, change: Callable[[Any], Any], ttl: float, attempts: int = 10) -> bool:
        """Replace a value by the result of `change(value)`, unless it is missing.

        If another client stores a value in the meantime, `change` is called again with that one, at most `attempts`
        times.  Return whether the result was stored."""
        server = self._servers.of(key)
        for _ in range(attempts if server is not None else 0):
            assert server is not None
            data, version = self._servers.attempt(server, lambda on: on.call("gets", key), (None, None))
            value = _decode(data)
            if value is MISSING:
                return False
            changed, expire = _encode(change(value)), _expiration(ttl)

            def swap(on: Server, data: bytes = changed, version: Any = version, expire: int = expire) -> Any:
                return on.call("cas", key, data, version, expire=expire)

            if self._servers.attempt(server, swap, None):
                return True
        return False

    def get_or_compute(self, key: str, ttl: float, compute: Callable[[], Any]) -> Any:
        """Return a value; if it is missing, that of `compute()`, which is stored for `ttl` seconds.

        If several callers miss the same value, in threads or in processes, one of them computes it, and the others wait
        for it.  The result is the same whether the value was stored or computed: as JSON transmits it.

        Raises what `compute` raises, and `TypeError` or `ValueError` if JSON cannot express the value."""
        server = self._servers.of(key)
        if server is not None and (value := self._read(server, key)) is not MISSING:
            self._count(True)
            return value
        self._count(False)
        with self._lock:
            computation = self._computations.get(key)
            leads = computation is None
            if computation is None:
                computation = self._computations[key] = _Computation()
        if leads:
            self._lead(computation, key, ttl, compute)
        else:
            computation.done.wait()
        if computation.error is not None:
            raise computation.error
        return computation.value

    def _lead(self, computation: _Computation, key: str, ttl: float, compute: Callable[[], Any]) -> None:
        try:
            computation.value = self._compute_once(key, ttl, compute)
        except BaseException as error:
            computation.error = error
        finally:
            with self._lock:
                del self._computations[key]
            computation.done.set()

    def _compute_once(self, key: str, ttl: float, compute: Callable[[], Any]) -> Any:
        """Compute and store a value, unless another process does: then wait for it, but not longer than `LOST`."""
        lock = key_of("lock", key)  # on the server of the value
        deadline, pause = time.monotonic() + LOST, FIRST_LOOK
        while (server := self._servers.of(key)) is not None and time.monotonic() < deadline:
            added = self._servers.attempt(server, lambda on: on.call("add", lock, b"", expire=LOST), None)
            if added is None:
                break  # the server is down, or full
            # Look once more: another process may have stored the value just before.
            if (value := self._read(server, key)) is not MISSING:
                if added:
                    self._unlock(server, lock)
                return value
            if added:
                try:
                    data = _encode(compute())
                    self._write(server, key, data, ttl)
                finally:
                    self._unlock(server, lock)
                return _decode(data)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK)
        data = _encode(compute())
        if server is not None:
            self._write(server, key, data, ttl)
        return _decode(data)

    def close(self) -> None:
        """Close the idle connections."""
        self._servers.close()

    def _count(self, hit: bool) -> None:
        with self._lock:
            if hit:
                self.hits += 1
            else:
                self.misses += 1

    def _read(self, server: Server, key: str) -> Any:
        return _decode(self._servers.attempt(server, lambda on: on.call("get", key), None))

    def _write(self, server: Server, key: str, data: bytes, ttl: float) -> bool:
        expire = _expiration(ttl)
        return self._servers.attempt(server, lambda on: bool(on.call("set", key, data, expire=expire)), False)

    def _unlock(self, server: Server, lock: str) -> None:
        self._servers.attempt(server, lambda on: on.call("delete", lock), None)


def _encode(value: Any) -> bytes:
    # In a list, so that None is a value as well.
    return as_json([value]).encode("ascii")


def _decode(data: bytes | None) -> Any:
    """Return the value in `data`; MISSING if there is none, or something else has been stored under this key."""
    if data is None:
        return MISSING
    try:
        match json.loads(data):
            case [value]:
                return value
    except ValueError:
        pass
    return MISSING


def _expiration(ttl: float) -> int:
    """Return an expiration time of memcached's protocol.  Raises `ValueError` unless `ttl` is at least a second."""
    if not ttl >= 1:
        raise ValueError(f"ttl={ttl}: a second or more is expected")
    return int(ttl) if ttl <= LONGEST_RELATIVE else int(time.time() + ttl)
