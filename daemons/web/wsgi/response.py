"""The response of a WSGI application: PEP 3333, "The start_response() Callable" and the sections after it.

A body of one piece is sent whole, with its length.  A body of several pieces is sent piece by piece, each before the
next is requested, and in chunks if the application sets no Content-Length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from daemons.serving.conversation.reply import Reply
from daemons.web.handlers.response_buffer import SPILL, Bounds, ResponseBuffer
from daemons.web.responses import BODILESS
from daemons.web.wsgi.body import checked, first_piece, framed, regrouped
from daemons.web.wsgi.fields import head_of
from daemons.web.wsgi.file_wrapper import FileWrapper

if TYPE_CHECKING:
    from daemons.framings.http import Request

log = logging.getLogger(__name__)


class WSGIResponse:
    """The response to one request.  `name` is the application's, for messages; `bounds` limit the bytes passed to
    `write`."""

    def __init__(self, name: str, peer: str, request: Request, closes: bool, bounds: Bounds | None = None) -> None:
        self._name = name
        self._peer = peer
        self._old = request.version == (1, 0)
        self._for_head = request.method == "HEAD"
        #: Whether the connection is closed after the response.
        self.closes = closes or not request.keep_alive
        self._bounds = bounds
        #: Whether `write` has found the connection closed by the peer.
        self.peer_is_gone = False
        self._head: list[bytes] = []
        #: Content-Length, if known, from the application or computed here.
        self._announced: int | None = None
        #: The bytes passed to `write`; None if it was not called.
        self._written: ResponseBuffer | None = None
        #: Whether the application has returned, after which `write` is an error.
        self._returned = False
        #: For the log: the status, and the length of the body in bytes, if known.
        self.status = 0
        self.size: int | None = None
        #: Whether start_response can no longer replace the headers.
        self._headed = False
        #: The close() of the returned iterable; called once.
        self._close: Callable[[], object] | None = None

    def run(self, application: Callable[..., Any], environ: dict[str, Any]) -> Reply:
        """Call `application`, and return its response.  Raises its exceptions, until the first piece is returned."""
        try:
            iterable = application(environ, self.start_response)
            self._returned = True
            self._close = getattr(iterable, "close", None)
            if self._written is not None and self._written.failure is not None:
                raise self._written.failure  # even if the application caught it
            return self._reply(iterable)
        except BaseException:
            try:
                self.close()
            except Exception:
                log.exception("%s: %s: close() failed as well", self._peer, self._name)
            raise

    def close(self) -> None:
        """Call the iterable's close(), and discard bytes that were not sent."""
        written, self._written = self._written, None
        if written is not None:
            written.discard()
        close, self._close = self._close, None
        if close is not None:
            close()

    # --- called by the application -----------------------------------------------------------------

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Set status and headers (PEP 3333), and return `write`.

        Raises `TypeError` and `ValueError` for an invalid status or header, `RuntimeError` for a second call without
        `exc_info`, and the exception in `exc_info` if the headers have been sent."""
        if exc_info:
            try:
                if self._headed:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # avoids a reference cycle through its frames
        elif self.status:
            raise RuntimeError("start_response was called a second time without exc_info")
        head = head_of(status, headers)
        self.status, self._head, self._announced = head.status, head.fields(), head.length
        return self._write

    def _write(self, data: bytes) -> None:
        """Add to the body, as PEP 3333's write().  The bytes are sent when the application returns."""
        if self._returned:
            raise RuntimeError("write() was called after the application returned; yield the data instead")
        if self._written is None:
            self._written = ResponseBuffer(self._bounds)
        try:
            self._written.write(checked(data))
        finally:
            self.peer_is_gone = isinstance(self._written.failure, BrokenPipeError)
        self._headed = True

    # --- making the response -----------------------------------------------------------------------

    def _reply(self, iterable: Iterable[bytes]) -> Reply:
        whole = isinstance(iterable, (list, tuple)) or (isinstance(iterable, Sized) and len(iterable) == 1)
        pieces = iter(iterable)
        # An application that is a generator calls start_response when its first piece is requested.
        rest, length = b"", 0
        if whole:
            parts = [checked(piece) for piece in pieces]
            length = sum(map(len, parts))
            if length > SPILL:
                pieces = regrouped(parts)
            else:
                rest = b"".join(parts)
        else:
            rest, whole = first_piece(pieces)
            length = len(rest)
        if not self.status:
            raise RuntimeError(f"{self._name} did not call start_response before its first piece")
        self._headed = True
        if self._for_head or self.status in BODILESS:
            return self._bodiless(length if whole else None)
        written = self._written
        size = length + (0 if written is None else written.size)
        if whole and length <= SPILL:
            return self._whole(rest, size)
        if whole and self._announced is None:
            self._announce(size)
        if self._announced is None and type(iterable) is FileWrapper and iterable.length is not None:
            self._announce(size + iterable.length)
        chunked = self._announced is None and not self._old
        if chunked:
            self._head.append(b"Transfer-Encoding: chunked\r\n")
        elif self._announced is None:
            self.closes = True
        self.size = self._announced
        head = self._end_of_head()
        is_gone = bool if self._bounds is None else self._bounds.is_gone
        return StreamedResponse(self, framed(head, self._all(rest, pieces), self._announced, chunked, is_gone))

    def _whole(self, rest: bytes, size: int) -> Reply:
        if self._announced is None:
            self._announce(size)
        elif self._announced != size:
            self.closes = True
            log.error(
                "%s: %s: Content-Length is %d, but the body has %d bytes", self._peer, self._name, self._announced, size
            )
        written, self._written = self._written, None
        try:
            self.close()
        except BaseException:
            self._written = written
            raise
        head = self._end_of_head()
        self.size = size if self._announced is None else min(size, self._announced)
        if written is None:
            return head + rest[: self._announced]
        written.write(rest)
        return written.assemble(head, written.content(self._announced))

    def _bodiless(self, size: int | None) -> bytes:
        """Return a response without a body.  For HEAD, it has the Content-Length of GET, unless that is 0."""
        if self.status == 204:
            # A 204 has no Content-Length (RFC 9110, section 8.6).
            self._head = [line for line in self._head if not line.lower().startswith(b"content-length:")]
        elif self._for_head and self._announced is None and self.status not in BODILESS:
            size = None if size is None else size + (0 if self._written is None else self._written.size)
            if size:
                self._announce(size)
        self.size = 0
        self.close()
        return self._end_of_head()

    def _announce(self, size: int) -> None:
        self._announced = size
        self._head.append(b"Content-Length: %d\r\n" % size)

    def _end_of_head(self) -> bytes:
        if self.closes:
            self._head.append(b"Connection: close\r\n")
        elif self._old:
            self._head.append(b"Connection: keep-alive\r\n")
        return b"".join((*self._head, b"\r\n"))

    def _all(self, first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
        written, self._written = self._written, None
        if written is not None:
            response = written.assemble(b"", written.content())
            if isinstance(response, bytes):
                yield response
            else:
                try:
                    yield from response.read_all()
                finally:
                    response.close()
        yield first
        # Not `yield from`, which would also call the close() of `pieces`.
        for piece in pieces:  # noqa: UP028
            yield piece


class StreamedResponse(Iterator[bytes]):
    """A response that is sent piece by piece."""

    def __init__(self, response: WSGIResponse, pieces: Generator[bytes, None, None]) -> None:
        self._response = response
        self._pieces = pieces

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """End the response: at its end, or earlier if the connection is closed."""
        try:
            self._pieces.close()
        finally:
            self._response.close()
