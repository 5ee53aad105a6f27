"""Framing of HTTP/1.1 requests: a head that ends with an empty line and gives the length of the body, then the body."""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import Decoder, Framing, FramingError, Incomplete
from daemons.framings.cache import HeadCache
from daemons.framings.http.bodies import Body, ChunkedBody, SizedBody
from daemons.framings.http.grammar import END, check_incomplete_head
from daemons.framings.http.head import REQUEST_LINE, Head, Request, long_line, parse
from daemons.framings.http.refusals import refusal

#: "A server […] SHOULD ignore at least one empty line (CRLF) received prior to the request-line" (RFC 9112, section
#: 2.2), for clients that send one after a body; no client sends more than a few.
EMPTY_LINES = 4

#: Message that precedes a request whose client waits for 100 Continue.
EXPECTATION = Request()
EXPECTATION.expects = True


class HTTP(Framing):
    """HTTP/1.1 requests, strictly as in RFC 9112; messages are `Request`.  Replies are sent unchanged.

    head
        Maximum size of the request line and the headers in bytes, including line ends.  The request line may have at
        most 8 KiB of it.
    headers
        Maximum number of header fields in a request.
    body
        Maximum size of a body in bytes, with Content-Length or in chunks.

    A request with ``Expect: 100-continue`` is preceded by a message whose `expects` is true.  The `apology` of an error
    is a complete response with ``Connection: close`` and the status 400, 413, 414, 417, 431, 501 or 505.  Raises
    `ValueError` for a limit that is too low.
    """

    def __init__(self, *, head: int = 16 * 1024, headers: int = 100, body: int = 1024**2) -> None:
        for name, limit, least in (("head", head, 1), ("headers", headers, 1), ("body", body, 0)):
            if limit < least:
                raise ValueError(f"HTTP: {name}={limit}; {least} or more is expected")
        self.head = head
        self.headers = headers
        self.body = body
        #: Parsed heads by their bytes.
        self._known: HeadCache[Head] = HeadCache()

    def __repr__(self) -> str:
        return f"HTTP(head={self.head}, headers={self.headers}, body={self.body})"

    def decoder(self) -> HTTPDecoder:
        return HTTPDecoder(self, self._known)

    def parse(self, raw: bytes) -> Head:
        """Parse a head, including its empty line.  Raises `FramingError`."""
        head = parse(raw, headers=self.headers, body=self.body)
        self._known.put(raw, head)
        return head


class HTTPDecoder(Decoder):
    """Holds an incomplete head, or a head and its incomplete body.

    A byte that is not allowed in a head, or exceeds its limit, is an error at once; other errors in a head are found
    when it is complete."""

    __slots__ = ("_body", "_empty", "_framing", "_head", "_held", "_known", "_seen", "ended", "surplus")

    def __init__(self, framing: HTTP, known: HeadCache[Head]) -> None:
        super().__init__()
        self.ended = self.surplus = False
        self._framing = framing
        self._known = known
        self._held = bytearray()
        #: Number of bytes of `_held` that have been searched for the end of a head.
        self._seen = 0
        #: Number of empty lines received before the next request.
        self._empty = 0
        #: Head of the request whose body is incomplete.
        self._head: Head | None = None
        self._body: Body | None = None

    @property
    def pending(self) -> bool:
        return bool(self._held or self._body is not None or self._empty)

    @property
    def buffered(self) -> int:
        body = b"" if self._body is None else self._body.octets
        return self._held.__alloc__() + (body.__alloc__() if isinstance(body, bytearray) else len(body))

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self.ended:
            self.surplus |= bool(data)
            return ()
        if not (self._held or self._body is not None or self._empty or self.error is not None):
            # The usual case: one request without a body, whose head is cached.
            head = self._known.get(data)
            if head is not None and head.alone is not None:
                self.ended = head.last
                return head.alone
        elif self.error is not None:
            return ()
        messages: list[bytes] = []
        try:
            self._take(data, messages)
        except FramingError as error:
            self._refuse(error)
        return messages

    def decode_one(self, data: bytes, start: int) -> tuple[bytes | None, int]:
        if self.ended or self.error is not None:
            self.surplus |= self.ended and start < len(data)
            return None, len(data)
        held = self._held
        source, at = (held + data[start:], 0) if held else (data, start)
        try:
            message, at = self._take_one(source, at)
        except FramingError as error:
            self._refuse(error)
            return None, len(data)
        if message is None:
            self._held = bytearray(memoryview(source)[at:])
            return None, len(data)
        self._held = bytearray()
        return message, at - len(held) + start if held else at

    def finish(self) -> Sequence[bytes]:
        if self.error is None:
            # Empty lines before a request are not part of one, so they are not incomplete.
            if self._body is not None:
                self._refuse(Incomplete(f"the input ended {len(self._body.octets)} bytes into a body"))
            elif self._held:
                self._refuse(Incomplete(f"the input ended {len(self._held)} bytes into a head"))
        return ()

    def _take(self, data: bytes, messages: list[bytes]) -> None:
        held = self._held
        source: bytes | bytearray = data
        if held:
            held += data
            source = held
        start = 0
        while start < len(source):
            if self.ended:
                self.surplus = True
                self._held = bytearray()
                return
            if self._body is not None:
                start = self._body.take(source, start)
                if not self._body.complete:
                    break
                self._deliver(messages)
                continue
            start = self._past_empty_lines(source, start)
            end = self._end_of_head(source, start)
            if end is None:
                break
            raw = bytes(source[start:end])
            head = self._known.get(raw) or self._framing.parse(raw)
            start, self._seen, self._empty = end, 0, 0
            if head.alone is not None:
                messages += head.alone
                self.ended = head.last
                continue
            self._head = head
            self._body = ChunkedBody(self._framing.body, self._framing.head) if head.chunked else SizedBody(head.length)
            if head.expects and start == len(source):
                messages.append(EXPECTATION)
        if source is held:
            del held[:start]
        else:
            held += data[start:]

    def _take_one(self, source: bytes | bytearray, start: int) -> tuple[bytes | None, int]:
        """Return the next message in `source` and its end; None and the end of the taken bytes, if it is incomplete.

        Raises `FramingError`."""
        if self._body is None:
            start = self._past_empty_lines(source, start)
            end = self._end_of_head(source, start)
            if end is None:
                return None, start
            raw = bytes(source[start:end])
            head = self._known.get(raw) or self._framing.parse(raw)
            start, self._seen, self._empty = end, 0, 0
            if head.alone is not None:
                self.ended = head.last
                return head.alone[0], start
            self._head = head
            self._body = ChunkedBody(self._framing.body, self._framing.head) if head.chunked else SizedBody(head.length)
            if head.expects and start == len(source):
                return EXPECTATION, start
        start = self._body.take(source, start)
        if not self._body.complete:
            return None, start
        messages: list[bytes] = []
        self._deliver(messages)
        return messages[0], start

    def _past_empty_lines(self, source: bytes | bytearray, start: int) -> int:
        while source.startswith(b"\r\n", start):
            self._empty += 1
            start += 2
            if self._empty > EMPTY_LINES:
                raise refusal(400, f"more than {EMPTY_LINES} empty lines before a request")
            self._seen = 0
        return start

    def _end_of_head(self, source: bytes | bytearray, start: int) -> int | None:
        """Return the end of the head that begins at `start`; None if it is incomplete.  Raises `FramingError` once the
        head cannot be valid."""
        limit = self._framing.head
        seen = start + self._seen
        end = source.find(END, max(start, seen - 3), start + limit) + len(END)
        if end >= len(END):
            return end
        have = len(source) - start
        if have <= 0:
            return None
        line = min(limit, REQUEST_LINE)
        if have >= line and source.find(b"\r\n", start, start + line) < 0:
            raise long_line(source, start, line)
        check_incomplete_head(source, start, seen, limit)
        self._seen = have
        return None

    def _deliver(self, messages: list[bytes]) -> None:
        assert self._head is not None
        assert self._body is not None
        messages.append(self._head.request.with_body(bytes(self._body.octets)))
        self.ended = self._head.last
        self._head = self._body = None

    def _refuse(self, error: FramingError) -> None:
        self.error = error.with_traceback(None)  # its frames refer to the received bytes
        self._held = bytearray()
        self._seen = self._empty = 0
        self._head = self._body = None
