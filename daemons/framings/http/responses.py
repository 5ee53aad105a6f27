"""HTTP/1.1 responses as a client reads them, as strictly as requests are read (RFC 9112, sections 4 to 8).

A lenient reader guesses, and its guesses affect other clients.  A field after a malformed line may be lost, such as a
cookie or ``Cache-Control: private``.  If two readers disagree about a length, one client gets the response to another.
So input that RFC 9112 allows a recipient to accept or to reject is rejected here, with two exceptions: the blank before
an absent reason phrase may be missing, since old servers omit it; and `ResponseDecoder` unfolds fields on request.
"""

from __future__ import annotations

from collections.abc import Sequence

from daemons.framings.base import FramingError, Incomplete
from daemons.framings.http.bodies import Body, ChunkedBody, SizedBody, UntilCloseBody
from daemons.framings.http.grammar import END, check_incomplete_head
from daemons.framings.http.refusals import refusal
from daemons.framings.http.response_head import ResponseHead, ResponseLimits, check_start, parse

DEFAULT_LIMITS = ResponseLimits()


class ResponseDecoder:
    """Decode the response to one request.

    For any bytes, cut anywhere, `decode` returns the head and pieces of the body, or sets one `error`; it never raises.
    A truncated response never becomes `complete`.

    method
        Method of the request.  A response to HEAD has no body; after a 2xx response to CONNECT the connection is a
        tunnel.
    unfold
        Replace obsolete line folding by a blank, as user agents must.  By default a folded line is an error, as it may
        be for a gateway (RFC 9112, section 5.2).
    upgrade
        Whether the request had Upgrade.  Then 101 is a final response, and `rest` has the first bytes of the other
        protocol; the caller checks the fields, as `daemons.framings.websocket.check_handshake` does.  Otherwise 101 is
        an error.
    interim
        Return the heads of other 1xx responses too, as a proxy that forwards them needs (RFC 9110, section 15.2).  By
        default they are skipped.
    """

    __slots__ = (
        *("_body", "_count", "_held", "_interim", "_limits", "_method", "_seen", "_unfold", "_upgrade"),
        *("complete", "error", "head", "received", "rest"),
    )

    def __init__(
        self,
        method: str,
        limits: ResponseLimits = DEFAULT_LIMITS,
        *,
        unfold: bool = False,
        upgrade: bool = False,
        interim: bool = False,
    ) -> None:
        self._method = method
        self._limits = limits
        self._unfold = unfold
        self._upgrade = upgrade
        self._interim = interim
        #: Input that is not decoded yet: an incomplete head, or an incomplete line of a chunked body.
        self._held = bytearray()
        #: Number of bytes of `_held` that have been searched for the end of a head.
        self._seen = 0
        #: Number of 1xx responses.
        self._count = 0
        self._body: Body | None = None
        #: The head of the final response; None until it is complete.
        self.head: ResponseHead | None = None
        #: Number of body bytes received so far.
        self.received = 0
        #: Whether the response is complete.
        self.complete = False
        #: Input after the response, unchanged: another response, the data of a tunnel, or an error of the server.
        self.rest = b""
        #: Set once, if the input is not a valid response.
        self.error: FramingError | None = None

    @property
    def reusable(self) -> bool:
        """Whether the connection can be used for another request: the response is complete, the server keeps the
        connection, and nothing was received after the response, which would be taken for the next one."""
        return self.complete and not self.rest and self.head is not None and self.head.keep_alive

    def decode(self, data: bytes) -> Sequence[ResponseHead | bytes]:
        """Process `data`, cut anywhere; return the head when it is complete, and the received pieces of the body.

        The pieces are not longer than `data` and an incomplete line together, so a long body takes no memory here.
        After the response, all input is added to `rest`: a caller stops at `complete`.
        """
        events: list[ResponseHead | bytes] = []
        if self.complete:
            self.rest += data
        elif self.error is None:
            self._held += data
            try:
                self._take(events)
            except FramingError as error:
                self._refuse(error)
        return events

    def finish(self) -> None:
        """End the input: this completes a body without a length; anywhere else it is an error."""
        if self.error is not None or self.complete:
            return
        if isinstance(self._body, UntilCloseBody):
            self.complete = True
        elif self.head is None:
            self._refuse(Incomplete("in the middle of the head" if self._held else "without a response"))
        elif self.head.length is not None:
            self._refuse(Incomplete(f"{self.head.length - self.received} bytes before the end of the body"))
        else:
            self._refuse(Incomplete(f"in the middle of a chunked body, behind {self.received} bytes"))

    def _take(self, events: list[ResponseHead | bytes]) -> None:
        held = self._held
        start = 0
        while self.head is None:
            end = self._end_of_head(start)
            if end is None:
                del held[:start]
                return
            head = parse(bytes(held[start:end]), self._method, self._limits, self._unfold)
            start, self._seen = end, 0
            if head.status == 101 and not self._upgrade:
                raise refusal(400, "101 Switching Protocols, but the request had no Upgrade")
            if head.status >= 200 or head.status == 101:
                self._body = self._body_of(head)
                self.head = head
                events.append(head)
                break
            self._count += 1
            if self._count > self._limits.interim:
                raise refusal(400, f"more than {self._limits.interim} responses of 1xx")
            if self._interim:
                events.append(head)
        body = self._body
        if body is not None:
            try:
                start = body.take(held, start)
            finally:
                # The bytes before an error are valid.
                if piece := body.drain():
                    self.received += len(piece)
                    events.append(piece)
        if body is None or body.complete:
            self.complete = True
            self.rest = bytes(held[start:])
            self._held = bytearray()
        else:
            del held[:start]

    def _end_of_head(self, start: int) -> int | None:
        """Return the end of the head that begins at `start`; None if it is incomplete.  Raises `FramingError` once the
        head cannot be valid."""
        held, limit = self._held, self._limits.head
        seen = start + self._seen
        end = held.find(END, max(start, seen - len(END) + 1), start + limit)
        if end >= 0:
            return end + len(END)
        check_start(held, start)
        if len(held) > start:
            check_incomplete_head(held, start, seen, limit)
        self._seen = len(held) - start
        return None

    def _body_of(self, head: ResponseHead) -> Body | None:
        if head.length == 0:
            return None
        limit = self._limits.body
        if head.length is None:
            return ChunkedBody(limit, self._limits.head) if head.chunked else UntilCloseBody(limit)
        if limit is not None and head.length > limit:
            raise refusal(413, f"a body of {head.length} bytes is announced; {limit} are allowed")
        return SizedBody(head.length)

    def _refuse(self, error: FramingError) -> None:
        error.apology = b""  # `refusal` sets a response for clients; here the peer is a server
        self.error = error.with_traceback(None)  # its frames refer to the received bytes
        self._held = bytearray()
        self._body = None
