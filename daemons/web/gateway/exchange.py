"""A request to an upstream server, and its response, over one connection."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from daemons.framings import Incomplete, Oversize
from daemons.framings.http import ResponseDecoder, ResponseHead
from daemons.serving.conversation.service import PeerLeft
from daemons.web.gateway.upstream_socket import UpstreamSocket
from daemons.web.responses import BODILESS

if TYPE_CHECKING:
    from daemons.serving.conversation.peer import Peer
    from daemons.web.gateway.circuit_breaker import Trial
    from daemons.web.gateway.request_table import RequestTable
    from daemons.web.gateway.upstream_address import UpstreamLimits

#: Seconds after which a response that its client does not read is no longer in progress: no thread waits for the
#: upstream server, and slow clients must not block others.
PAUSED = 1.0

#: Seconds between two checks whether the client has left, while a thread waits for the server.
CLIENT_CHECK = 0.2

#: A client that has closed only its sending half may still read, so it is left alone until its place is needed.
LEAVING = "too many requests are in progress, and the client of this one had closed its sending half"

RESET = "reset the connection before the end of its response"


class UpstreamError(Exception):
    """There is no valid response.  `status` is for the client, 502, 503 or 504; the text is for the log.

    `is_outage`: the server did not respond, or not in time; counted by the circuit breaker.  A malformed response is
    none, since it may be that of one resource."""

    def __init__(self, status: int, reason: str, *, is_outage: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.is_outage = is_outage


class StaleError(Exception):
    """A kept connection was closed by the server before it responded."""


class Upstream(Protocol):
    """Interface of `daemons.web.gateway.upstream.Upstream` that exchanges use."""

    limits: UpstreamLimits
    table: RequestTable | None

    def keep(self, connection: UpstreamSocket) -> None: ...
    def is_full(self) -> bool: ...
    def record_head(self, exchange: Exchange) -> None: ...
    def resume(self, exchange: Exchange) -> bool: ...
    def release(self, exchange: Exchange) -> None: ...


class Exchange:
    """A request of the client `peer`, and its response.  Must be closed."""

    def __init__(self, upstream: Upstream, method: str, peer: Peer) -> None:
        self._upstream = upstream
        self._peer = peer
        #: Set if it is a trial request of the circuit breaker.
        self.trial: Trial | None = None
        #: The failure that the circuit breaker counts.
        self.outage: UpstreamError | None = None
        self._decoder = ResponseDecoder(method)
        self._method = method
        self._connection: UpstreamSocket | None = None
        self._events: deque[ResponseHead | bytes] = deque()
        self._waited = 0.0
        #: The unsent rest of the request, and whether any byte of the response was received.
        self._unsent = memoryview(b"")
        self._received = False
        #: Whether the connection can be reused if the decoder finds it `reusable`.
        self._keeps = False
        #: When (monotonic) the client took the last piece; infinite while a thread waits for the server.
        self._paused = float("inf")
        #: Whether it counts as in progress; cleared after a pause, until `Upstream.resume`.
        self._counts = True
        #: Its place in the table of all processes; None if it has none.
        self.place: int | None = None
        #: Why it was cut short; empty if it was not.
        self._cut = ""

    @property
    def head(self) -> ResponseHead:
        """The head of the response; available after `run`."""
        head = self._decoder.head
        assert head is not None
        return head

    @property
    def complete(self) -> bool:
        """Whether the response is complete."""
        return self._decoder.complete

    @property
    def may_be_dropped(self) -> bool:
        """Whether the server has not responded yet, and the client has closed at least its sending half."""
        return self._decoder.head is None and self._peer.has_closed()

    @property
    def in_progress(self) -> bool:
        """Whether a thread waits for the server, or did so less than `PAUSED` seconds ago."""
        return self._counts and self._paused > time.monotonic() - PAUSED

    @property
    def paused_since(self) -> float:
        """When (monotonic) the client took the last piece; infinite while a thread waits for the server."""
        return self._paused

    def cut(self, reason: str) -> None:
        """Cut the response short, from any thread.  The socket is shut down, not closed, since a thread that reads it
        could otherwise use a descriptor that belongs to another connection by then."""
        self._cut = reason
        if (connection := self._connection) is not None:
            connection.shut_down()

    def wait_on(self) -> None:
        """Count the exchange as in progress: a thread is about to wait for the server."""
        self._counts = True
        self._paused = float("inf")
        self._note()

    def run(self, connection: UpstreamSocket, request: bytes, has_body: bool) -> None:
        """Send `request`, and wait for the head of the response.  Raises `UpstreamError`; `StaleError` if a reused
        connection is closed without a response; and `PeerLeft` if the client leaves."""
        self._connection = connection
        self._unsent = memoryview(request)
        deadline = time.monotonic() + self._pause
        try:
            while self._decoder.head is None:
                self._check_cut()
                deadline = self._send_and_receive(deadline)
        except OSError as error:
            self._check_cut()
            if connection.used and not self._received:
                raise StaleError from error
            raise UpstreamError(502, RESET, is_outage=True) from error
        except UpstreamError as error:
            self._check_cut()
            if connection.used and not self._received and isinstance(self._decoder.error, Incomplete):
                raise StaleError from error
            raise
        self._upstream.record_head(self)
        # Not kept after a body, which a server that responded early may read as the next request.  Not kept after HEAD,
        # or a status without a body: if the server sends one nevertheless, another client must not receive it.
        self._keeps = not (self._unsent or has_body) and self._method != "HEAD" and self.head.status not in BODILESS

    def restart(self) -> None:
        """Prepare to send the request again, after `StaleError`."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._decoder = ResponseDecoder(self._method)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives.  Raises `UpstreamError`."""
        while True:
            while self._events:
                if type(piece := self._events.popleft()) is bytes:
                    self._paused = time.monotonic()
                    self._note()
                    yield piece
                    self._counts = self.in_progress
            if self._decoder.complete:
                break
            self._read()
        self._finish()

    def close(self) -> None:
        """End the exchange; the connection is closed unless the response is complete."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._upstream.release(self)

    def _note(self) -> None:
        """Publish to other processes whether the exchange is in progress."""
        table = self._upstream.table
        if table is not None and self.place is not None:
            table.put(self.place, self._paused if self._counts else None)

    def _read(self) -> None:
        assert self._connection is not None
        self._check_cut()
        if not self._upstream.resume(self) and self._connection.wait(0.0, writing=bool(self._unsent)) is None:
            in_progress = f"{self._upstream.limits.requests} requests are in progress (upstream_requests)"
            raise UpstreamError(503, f"{in_progress}, and the client of this one had paused")
        try:
            self._send_and_receive(time.monotonic() + self._upstream.limits.pause)
        except OSError as error:
            self._check_cut()
            self.outage = UpstreamError(502, RESET, is_outage=True)
            raise self.outage from error
        except UpstreamError as error:
            self._check_cut()
            self.outage = error if error.is_outage else None
            raise

    @property
    def _pause(self) -> float:
        """Maximum seconds until the head of the response, and during the request."""
        return self._upstream.limits.pause if self.trial is None else self.trial.patience

    def _check_cut(self) -> None:
        """Raise `UpstreamError` if the response was cut short: that, and no failure of the server, ended it."""
        if self._cut:
            raise UpstreamError(503, self._cut)

    def _send_and_receive(self, deadline: float) -> float:
        """Wait until the connection is readable or writable, at most until `deadline`; then receive or send.

        Return the next deadline, which is later if bytes were sent.  The request may still be sent during the response,
        since a server may respond before it has read the body.  Raises `UpstreamError` and `OSError`."""
        connection = self._connection
        assert connection is not None
        readable, writable = self._wait(deadline, writing=bool(self._unsent))
        if writable:
            try:
                self._unsent = self._unsent[connection.send(self._unsent) :]
                deadline = time.monotonic() + self._pause
            except ConnectionError:
                # The server may have sent a response before it closed the connection.
                self._unsent = memoryview(b"")
        if readable:
            data = connection.receive()
            self._received = self._received or bool(data)
            self._decode(data)
        return deadline

    def _wait(self, deadline: float, *, writing: bool) -> tuple[bool, bool]:
        """Wait until the connection is readable or, if `writing`, writable; return both.

        Raises `UpstreamError`; and `PeerLeft` if the client leaves."""
        assert self._connection is not None
        began = time.monotonic()
        patience = deadline - began
        total = self._upstream.limits.total
        if total is not None:
            patience = min(patience, total - self._waited)
        left = patience
        while (found := self._connection.wait(max(0.0, min(left, CLIENT_CHECK)), writing=writing)) is None:
            if left <= CLIENT_CHECK:
                break
            self._check_client()
            left = patience - (time.monotonic() - began)
        self._waited += time.monotonic() - began
        if found is None:
            if total is not None and self._waited >= total:
                reason = f"no complete response within {total:g} s of waiting (upstream_total)"
                raise UpstreamError(504, reason, is_outage=True)
            pause = self._upstream.limits.pause
            limit = "upstream_timeout"
            part = "response" if self._decoder.head is None else "next part of the response"
            if self._decoder.head is None and self._pause < pause:
                pause, limit = self._pause, "trial request of the circuit breaker"
            raise UpstreamError(504, f"no {part} within {pause:g} s ({limit})", is_outage=True)
        return found

    def _check_client(self) -> None:
        """Raise `PeerLeft` if the client has left; `UpstreamError` if it may have left, and others wait for a place."""
        if self._peer.is_reset():
            raise PeerLeft("the client has left")
        if self._peer.has_closed() and self._upstream.is_full():
            raise UpstreamError(503, LEAVING)

    def _decode(self, data: bytes) -> None:
        if data:
            self._events += self._decoder.decode(data)
        else:
            self._decoder.finish()
        error = self._decoder.error
        if error is None:
            return
        if isinstance(error, Incomplete):
            raise UpstreamError(502, f"closed the connection {error}", is_outage=True)
        kind = "too large a response" if isinstance(error, Oversize) else "a malformed response"
        raise UpstreamError(502, f"sent {kind}: {error}")

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        # First, since a released exchange is not cut any more: `cut` would shut the connection down under the next
        # exchange that uses it.
        self._upstream.release(self)
        if connection is not None:
            if self._keeps and self._decoder.reusable and not self._cut:
                self._upstream.keep(connection)
            else:
                connection.close()
