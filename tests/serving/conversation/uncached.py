"""A service binding without a cache, to compare replies with."""

from __future__ import annotations

from daemons.serving.conversation.service import Service
from daemons.serving.conversation.service_binding import ServiceBinding


class Uncached(ServiceBinding):
    """A binding whose cache stores nothing."""

    __slots__ = ()

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.cache.paused = 1 << 60
