"""Circuit breakers of a process for its metrics, which are written without knowledge of the gateway."""

from __future__ import annotations

import weakref
from typing import Protocol


class Breaker(Protocol):
    """Interface of `daemons.web.gateway.upstream.Upstream` for the metrics."""

    @property
    def is_open(self) -> bool: ...


class UpstreamCounter:
    """The upstream servers of a process."""

    def __init__(self) -> None:
        #: Number of times that a circuit breaker has opened.
        self.opened = 0
        self._upstreams: weakref.WeakSet[Breaker] = weakref.WeakSet()

    def add(self, upstream: Breaker) -> None:
        """Count the circuit breaker of `upstream` as long as that exists."""
        self._upstreams.add(upstream)

    @property
    def open(self) -> int:
        """Number of circuit breakers that are open now."""
        return sum(each.is_open for each in self._upstreams) if self._upstreams else 0


#: The upstream servers of this process.
UPSTREAMS = UpstreamCounter()
