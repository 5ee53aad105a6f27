"""The life of the services of a daemon: start, periodic calls, and close."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from daemons.serving.safe_call import call_safely
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.conversation.service import Service
    from daemons.serving.interfaces import Leader

log = SafeLogger(__name__)

#: Minimum seconds between two log lines about a periodic call that fails.
LOG_INTERVAL = 60.0


class ServiceLife:
    """Starts and closes the services of a daemon, once in each serving process."""

    def __init__(self, daemon: Leader) -> None:
        self._daemon = daemon
        self._services: list[Service] = []

    def start(self) -> None:
        """Start all services, and schedule their periodic calls.  Raises what `Service.start` raises."""
        for service in {id(server.service): server.service for server in self._daemon.servers}.values():
            if service is None:
                continue
            self._services.append(service)
            service.start()
            for seconds, function in service.periodic:
                PeriodicCall(self._daemon, seconds, function).schedule(time.monotonic())

    def close(self) -> None:
        """Close the services that were started, in reverse order.  Exceptions are logged."""
        while self._services:
            service = self._services.pop()
            call_safely(service.close)
            call_safely(service.close_executor)


class PeriodicCall:
    """Calls a function at regular times; a time that has passed already is left out."""

    def __init__(self, daemon: Leader, seconds: float, function: Callable[[], object]) -> None:
        self._daemon = daemon
        self._seconds = seconds
        self._function = function
        #: When (monotonic) a failure was last logged.
        self._logged = -math.inf
        #: Failures since then.
        self._unlogged = 0

    def schedule(self, previous: float) -> None:
        """Call the function at the next time after `previous` (monotonic)."""
        now = time.monotonic()
        when = previous + self._seconds
        if when < now:
            when += math.ceil((now - when) / self._seconds) * self._seconds
        self._daemon.timers.call_at(when, partial(self._call, when))

    def _call(self, when: float) -> None:
        try:
            self._function()
        except Exception as error:
            self._log(error)
        finally:
            self.schedule(when)

    def _log(self, error: Exception) -> None:
        self._unlogged += 1
        if time.monotonic() >= self._logged + LOG_INTERVAL:
            name = getattr(self._function, "__qualname__", repr(self._function))
            text = "%s failed (it is called every %g s; failures: %d)"
            log.error(text, name, self._seconds, self._unlogged, exc_info=error)
            self._logged, self._unlogged = time.monotonic(), 0
