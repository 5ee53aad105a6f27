"""Pauses of a server's accept loop, and the accepted connections that wait during a pause."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daemons.serving.guards.accept_backoff import AcceptBackoff, NoResourcesError
from daemons.serving.handler_server import HandlerServer

if TYPE_CHECKING:
    from daemons.serving.guards.limits import Limits


class DeferringServer(HandlerServer):
    """A server that pauses when resources are exhausted or the rate limit is reached.

    An accepted connection for which the system has no thread, process or epoll entry left is deferred: it stays open,
    and is processed after the pause."""

    def __init__(
        self, server_address: Any, RequestHandlerClass: Callable[..., Any], bind_and_activate: bool = True
    ) -> None:
        #: Pauses of the accept loop.
        self.backoff = AcceptBackoff()
        self.backoff.on_pause = self._count_pause
        self._deferred: deque[tuple[Any, Any]] = deque()
        super().__init__(server_address, RequestHandlerClass, bind_and_activate)

    def apply(self, limits: Limits) -> None:
        if limits.max_rate != self.limits.max_rate:
            self.backoff.reset_rate()
        super().apply(limits)

    def wait(self) -> float:
        """Return the seconds until the listener may be polled again: 0.0, or the rest of a pause because of exhausted
        resources or `Limits.max_rate`."""
        return self.backoff.wait(self.limits.max_rate)

    def _count_pause(self) -> None:
        if self.metrics is not None:
            self.metrics.pause()

    @property
    def deferred(self) -> bool:
        """Whether connections are deferred."""
        return bool(self._deferred)

    def defer(self, request: Any, client_address: Any, error: NoResourcesError) -> None:
        """Keep an accepted connection for `retry`, and pause."""
        if not self.backoff.until:
            self.backoff.after(error)  # one log line for each pause
        self._deferred.append((request, client_address))

    def retry(self) -> None:
        """Process the deferred connections, until one of them must be deferred again."""
        for _ in range(len(self._deferred)):
            request, client_address = self._deferred[0]
            try:
                if request in self.connections:  # not closed meanwhile
                    self.process_again(request, client_address)
            except NoResourcesError as error:
                self.backoff.after(error)
                return
            self._deferred.popleft()

    def process_again(self, request: Any, client_address: Any) -> None:
        """Process a deferred connection.  Raise `NoResourcesError`, or the exception of a signal handler."""
        raise NotImplementedError

    def take_deferred(self) -> list[Any]:
        """Return the sockets of the deferred connections, and forget them."""
        found = [request for request, _ in self._deferred]
        self._deferred.clear()
        return found
