"""A server behind this one, asked over HTTP: connections that are kept and used again, and what can go wrong."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence

from daemons.web.answer import PIECE
from daemons.web.behind import Behind
from daemons.web.responses import BODILESS

#: Seconds to connect: it is near, and where it is not there the visitor should be told at once.
CONNECT = 5.0

#: Connections that are kept while nobody needs them; and for how many seconds, which is less than most
#: servers keep them.
IDLE, KEPT = 16, 10.0

#: Methods that may be said twice (RFC 9110, section 9.2.2).
IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))


class UpstreamError(Exception):
    """There is no answer to be had; `status` is what the visitor is told, 502 or 504, and the text is for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _StaleError(Exception):
    """A connection that was kept has been closed by the other end meanwhile."""


class _Connection(http.client.HTTPConnection):
    """To a host and port, or to a Unix socket."""

    def __init__(self, behind: Behind) -> None:
        super().__init__(behind.host or "localhost", behind.port, timeout=CONNECT)
        self._path = behind.path
        #: When (monotonic) it was last used.
        self.used = 0.0

    def connect(self) -> None:
        if not self._path:
            super().connect()
            return
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(CONNECT)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    @property
    def stale(self) -> bool:
        """Whether the other end has closed it, or has said what nobody asked."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))


class Response:
    """An answer, of which the head has come.  To be closed.  With `keeps` its connection may be used again."""

    def __init__(
        self, upstream: Upstream, connection: _Connection, response: http.client.HTTPResponse, *, keeps: bool
    ) -> None:
        self._upstream = upstream
        self._keeps = keeps
        self._connection = connection
        self._response = response
        self._complete = False
        self.status = response.status
        self.reason = response.reason
        #: Names and values.
        self.fields: Sequence[tuple[str, str]] = response.getheaders()
        #: Octets of the body that are to come; None: nobody knows.
        self.left: int | None = None if response.chunked else response.length
        if self.status in BODILESS or response._method == "HEAD":  # type: ignore[attr-defined]
            self.left = 0

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes.  Raises `UpstreamError`."""
        while self.left != 0:
            try:
                piece = self._response.read1(PIECE if self.left is None else min(PIECE, self.left))
            except (OSError, http.client.HTTPException) as error:
                raise _reason_of(error, "in the middle of its answer") from error
            if not piece:
                if self.left:
                    raise UpstreamError(502, f"closed the connection {self.left} octets before the end of its answer")
                break
            if self.left is not None:
                self.left -= len(piece)
            yield piece
        self._finish()

    def _finish(self) -> None:
        """It is complete."""
        self._complete = True
        self._response.close()
        if self._keeps:
            self._upstream.keep(self._connection)
        else:
            self._connection.close()

    def close(self) -> None:
        """Let go of it; where it is not complete, of its connection too."""
        if not self._complete:
            self._response.close()
            self._connection.close()


class Upstream:
    """A server behind this one.  `timeout`, in seconds, is for the beginning of an answer, and for each piece."""

    def __init__(self, behind: Behind, timeout: float) -> None:
        self._behind = behind
        self._timeout = timeout
        self._idle: deque[_Connection] = deque()

    def __str__(self) -> str:
        return self._behind.text

    def ask(self, method: str, target: str, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> Response:
        """The answer to a request, which is said as it is.  Raises `UpstreamError`."""
        connection = self._kept()
        if connection is not None:
            try:
                return self._exchange(connection, method, target, fields, body)
            except _StaleError:
                if method not in IDEMPOTENT:
                    # It may have been done before the connection was closed.
                    raise UpstreamError(502, "closed the connection when it was asked") from None
        connection = _Connection(self._behind)
        try:
            connection.connect()
        except OSError as error:
            raise _reason_of(error, "while connecting") from error
        assert connection.sock is not None
        connection.sock.settimeout(self._timeout)
        return self._exchange(connection, method, target, fields, body)

    def keep(self, connection: _Connection) -> None:
        """Use a connection again, unless its other end will have it closed."""
        connection.used = time.monotonic()
        if connection.sock is not None and len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> _Connection | None:
        """The one that was used last: so that those that are not needed grow old."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - connection.used < KEPT and not connection.stale:
                return connection
            connection.close()

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        target: str,
        fields: Sequence[tuple[bytes, bytes]],
        body: bytes,
    ) -> Response:
        used = bool(connection.used)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in fields:
                connection.putheader(name, value)
            try:
                connection.endheaders(body or None)
            except ConnectionError:
                if used:
                    raise
                # Who does not want the body may have said why before closing.
            response = connection.getresponse()
            if response.status < 200:
                response.close()
                raise UpstreamError(502, f"answered with {response.status}, which was not asked for")
            # A server that answers without reading the body takes it for the next request, and one that sends a body
            # to HEAD, or behind a status that has none, has more to say: that would be told to somebody else.
            keeps = not body and method != "HEAD" and response.status not in BODILESS
            return Response(self, connection, response, keeps=keeps)
        except ConnectionError as error:  # RemoteDisconnected among them
            connection.close()
            if used:
                raise _StaleError from error
            raise UpstreamError(502, "closed the connection without an answer") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _reason_of(error, "instead of an answer") from error
        except BaseException:
            connection.close()
            raise


def _reason_of(error: Exception, when: str) -> UpstreamError:
    if isinstance(error, TimeoutError):
        return UpstreamError(504, f"nothing came in time {when}".replace(" instead of an answer", ""))
    if isinstance(error, OSError):
        return UpstreamError(502, f"{(error.strerror or type(error).__name__).lower()} {when}")
    return UpstreamError(502, f"what it said is not HTTP ({type(error).__name__}) {when}")
