"""What a WSGI application says, made into a response: PEP 3333, "The start_response() Callable" and what follows it.

What the application has in one piece is sent whole, with its length; else a piece is sent before the next is asked
for, in chunks where nobody has said how long they are together.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from io import BufferedReader, FileIO
from typing import TYPE_CHECKING, Any

from daemons.serving.conversation.service import PeerLeft, Reply
from daemons.web.handlers.response_buffer import LOOK, PIECE, SPILL, Bounds, ResponseBuffer
from daemons.web.responses import BODILESS
from daemons.web.wsgi.fields import head_of

if TYPE_CHECKING:
    from daemons.framings.http import Request

log = logging.getLogger(__name__)

LAST_CHUNK = b"0\r\n\r\n"


#: Empty pieces that are taken in one go before the first that is not.
MOST_EMPTY = 1000


class LengthError(Exception):
    """An application gave other than the Content-Length that it had announced."""


class FileWrapper:
    """``wsgi.file_wrapper``: the rest of a file-like object, in pieces.

    `block_size` is a suggestion, which is not followed: pieces are of 64 KiB."""

    def __init__(self, file: Any, block_size: int = 8192) -> None:
        self._read = file.read
        self._left: int | None = _rest_of(file)
        if hasattr(file, "close"):
            self.close = file.close

    @property
    def length(self) -> int | None:
        """How many octets there will be; None: nobody can tell.  A file that grows meanwhile has no more for us."""
        return self._left

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        wanted = PIECE if self._left is None else min(PIECE, self._left)
        piece: bytes = self._read(wanted) if wanted else b""
        if not piece:
            raise StopIteration
        if self._left is not None:
            self._left -= len(piece)
        return piece


def _rest_of(file: Any) -> int | None:
    if type(file) not in (BufferedReader, FileIO):
        return None  # what is read from others need not be what is in their file
    found = os.fstat(file.fileno())
    # Files of proc(5) have no size, whatever can be read from them.
    return max(0, found.st_size - file.tell()) if stat.S_ISREG(found.st_mode) and found.st_size else None


class WSGIResponse:
    """The answer to one request.  `name` is the application's, for messages; `bounds` are for
    the bytes given to `write`."""

    def __init__(self, name: str, peer: str, request: Request, closes: bool, bounds: Bounds | None = None) -> None:
        self._name = name
        self._peer = peer
        self._old = request.version == (1, 0)
        self._for_head = request.method == "HEAD"
        #: Whether the connection is closed after it.
        self.closes = closes or not request.keep_alive
        self._bounds = bounds
        #: Whether `write` has found that nothing can be sent any more.
        self.peer_is_gone = False
        self._head: list[bytes] = []
        #: The Content-Length, once somebody has said it.
        self._announced: int | None = None
        #: What `write` was given; None: nothing so far.
        self._written: ResponseBuffer | None = None
        #: The application has returned, so that `write` comes too late.
        self._returned = False
        #: What the log says: the status, and the octets of the body where they are known.
        self.status = 0
        self.size: int | None = None
        #: Whether it is too late for other headers.
        self._headed = False
        #: Of what the application returned; called once.
        self._close: Callable[[], object] | None = None

    def run(self, application: Callable[..., Any], environ: dict[str, Any]) -> Reply:
        """What `application` has to say.  Raises what it raises, as long as nothing has been said."""
        try:
            iterable = application(environ, self.start_response)
            self._returned = True
            self._close = getattr(iterable, "close", None)
            if self._written is not None and self._written.failure is not None:
                raise self._written.failure  # whatever the application has made of it
            return self._reply(iterable)
        except BaseException:
            try:
                self.close()
            except Exception:
                log.exception("%s: %s: close() failed, too", self._peer, self._name)
            raise

    def close(self) -> None:
        """Tell the application that it is over, and put away what nobody will be sent."""
        written, self._written = self._written, None
        if written is not None:
            written.discard()
        close, self._close = self._close, None
        if close is not None:
            close()

    # --- what the application calls ----------------------------------------------------------------

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's.  Raises `TypeError` and `ValueError` for a status or header that is none, `RuntimeError` for a
        second call without `exc_info`, and with it, where headers have been sent, the exception in it."""
        if exc_info:
            try:
                if self._headed:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # with its frames in it, it would be a circle
        elif self.status:
            raise RuntimeError("start_response is called a second time, and without exc_info")
        head = head_of(status, headers)
        self.status, self._head, self._announced = head.status, head.fields(), head.length
        return self._write

    def _write(self, data: bytes) -> None:
        """PEP 3333's write().  What it is given is sent as soon as the application returns."""
        if self._returned:
            raise RuntimeError("write() is called behind the application's return; yield what is to be sent")
        if self._written is None:
            self._written = ResponseBuffer(self._bounds)
        try:
            self._written.write(_checked(data))
        finally:
            self.peer_is_gone = isinstance(self._written.failure, BrokenPipeError)
        self._headed = True

    # --- what becomes of it ------------------------------------------------------------------------

    def _reply(self, iterable: Iterable[bytes]) -> Reply:
        whole = isinstance(iterable, (list, tuple)) or (isinstance(iterable, Sized) and len(iterable) == 1)
        pieces = iter(iterable)
        # An application that is a generator calls start_response when it is first asked for something.
        rest, length = b"", 0
        if whole:
            parts = [_checked(piece) for piece in pieces]
            length = sum(map(len, parts))
            if length > SPILL:
                pieces = _regrouped(parts)
            else:
                rest = b"".join(parts)
        else:
            rest, whole = _first(pieces)
            length = len(rest)
        if not self.status:
            raise RuntimeError(f"{self._name} has not called start_response before there was something to be sent")
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
        return WSGIReply(self, framed(head, self._all(rest, pieces), self._announced, chunked, is_gone))

    def _whole(self, rest: bytes, size: int) -> Reply:
        if self._announced is None:
            self._announce(size)
        elif self._announced != size:
            self.closes = True
            log.error("%s: %s announced %d octets and gave %d", self._peer, self._name, self._announced, size)
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
        return written.reply(head, written.content(self._announced))

    def _bodiless(self, size: int | None) -> bytes:
        """To HEAD, the length is that of the answer to GET, so that none may be better than 0."""
        if self.status == 204:
            # RFC 9110, section 8.6: it must not have one.
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
            written_reply = written.reply(b"", written.content())
            if isinstance(written_reply, bytes):
                yield written_reply
            else:
                try:
                    yield from written_reply.read_all()
                finally:
                    written_reply.close()
        yield first
        # Not `yield from`, which would call its close() too.
        for piece in pieces:  # noqa: UP028
            yield piece


class WSGIReply(Iterator[bytes]):
    """A response in pieces."""

    def __init__(self, response: WSGIResponse, pieces: Generator[bytes, None, None]) -> None:
        self._response = response
        self._pieces = pieces

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """At the end, or when the visitor has left before it."""
        try:
            self._pieces.close()
        finally:
            self._response.close()


def _regrouped(parts: list[bytes]) -> Iterator[bytes]:
    """Yield the bytes of `parts` in pieces of about `PIECE` bytes, without a copy of all of them: a body in memory is
    not held twice, and many small parts are not sent one by one."""
    group: list[bytes] = []
    size = 0
    for part in parts:
        for start in range(0, len(part), PIECE):
            piece = part if len(part) <= PIECE else part[start : start + PIECE]
            group.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield b"".join(group)
                group.clear()
                size = 0
    if group:
        yield b"".join(group)


def _first(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """Return the first piece that is not empty, and whether there is none.  An application that has nothing to say for
    now may go on with empty pieces (PEP 3333, "Middleware Handling of Block Boundaries"): after many, one of those."""
    for count, piece in enumerate(pieces):
        if _checked(piece) or count == MOST_EMPTY:
            return piece, False
    return b"", True


def framed(
    head: bytes,
    pieces: Iterator[bytes],
    announced: int | None,
    chunked: bool,
    is_gone: Callable[[], bool] = bool,
) -> Generator[bytes, None, None]:
    """The response's octets.  Behind each piece comes an empty one, which has it sent before the next is made: a
    server "must not delay the transmission of any block" (PEP 3333, "Buffering and Streaming").  Raises `LengthError`
    after the last octet that may be sent, and `PeerLeft` where `is_gone` says that nobody is there any more, which is
    asked while there is nothing to send that would show it."""
    left = announced
    look_at = 0.0
    for piece in pieces:
        if not _checked(piece):
            if (now := time.monotonic()) >= look_at:
                if look_at and is_gone():
                    raise PeerLeft("the peer has closed the connection, and the application says nothing")
                look_at = now + LOOK
            yield b""
            continue
        if left is not None and len(piece) > left:
            yield head + piece[:left]
            raise LengthError(f"more than the {announced} octets that were announced; the others are not sent")
        if left is not None:
            left -= len(piece)
        yield b"%b%x\r\n%b\r\n" % (head, len(piece), piece) if chunked else head + piece
        yield b""
        head = b""
    if left:
        raise LengthError(f"{left} octets less than the {announced} that were announced")
    if chunked:
        yield LAST_CHUNK


def _checked(piece: bytes) -> bytes:
    if not isinstance(piece, bytes):
        raise TypeError(f"an application's piece is {type(piece).__name__}; bytes are expected")
    return piece
