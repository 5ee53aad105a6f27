"""Framing of WebSocket messages (RFC 6455, section 5)."""

from __future__ import annotations

import secrets
from codecs import utf_8_decode
from collections.abc import Callable, Sequence

from daemons.framings.base import Decoder, Framing, FramingError, Incomplete
from daemons.framings.websocket.header import CONTROL, FINAL, MASK, MASKED, OPCODE, SHORT, read_header, write_header
from daemons.framings.websocket.masking import apply_mask, rotate
from daemons.framings.websocket.messages import BINARY, CLOSE, PING, TEXT, Close, Encoded, Ping, Pong, Text, is_sendable
from daemons.framings.websocket.refusals import invalid_text, malformed, too_big

#: The first `FRAGMENTS` fragments of a message may have any size; further ones must have at least `SHORT_FRAGMENT`
#: bytes on average.  Without this, fragments without a payload would never reach the limit.
FRAGMENTS, SHORT_FRAGMENT = 16 * 1024, 64

#: First bytes of a message in one frame.
_WHOLE_TEXT, _WHOLE_BINARY = FINAL | TEXT, FINAL | BINARY

_new_bytes = bytes.__new__


class WebSocket(Framing):
    """WebSocket messages after the handshake.  A binary message is plain `bytes`, a text message is `Text`; `Ping`,
    `Pong` and `Close` are delivered as messages, also between the fragments of a message.

    limit
        Maximum size of a text or binary message in bytes, in all its fragments.  A security limit, so it has no
        default: a frame can announce 2**63 bytes.  A longer message is refused when the header of the frame is
        received that exceeds the limit.
    client
        False: decode the frames of a client, which are masked, and encode those of a server.  True: the reverse.
    new_mask
        For a client: return four bytes for each encoded frame.  They must be unpredictable for the author of the
        message (RFC 6455, section 10.3).

    A decoder has `ended` after a Close: later input is ignored.  The `apology` of an error is a Close frame with code
    1002 (protocol error), 1007 (text that is not UTF-8) or 1009 (too big).  Raises `ValueError` for a limit below 1.
    """

    def __init__(self, *, limit: int, client: bool = False, new_mask: Callable[[], bytes] | None = None) -> None:
        if limit < 1:
            raise ValueError(f"WebSocket: limit={limit}; 1 or more is expected")
        self.limit = limit
        self.client = client
        self._new_mask = new_mask or _random_mask

    def __repr__(self) -> str:
        return f"WebSocket(limit={self.limit}, client={self.client})"

    def decoder(self) -> WebSocketDecoder:
        return WebSocketDecoder(self)

    def encode(self, reply: bytes) -> bytes:
        """Return `reply` as one frame of its type: text for `Text`, binary for other `bytes`.

        `Encoded` is returned unchanged.  For a client, raises `ValueError` for one that is not empty, since each frame
        must have a mask of its own.
        """
        if isinstance(reply, Encoded):
            if reply and self.client:
                raise ValueError("frames encoded in advance; a client is expected to mask each frame anew")
            return reply
        size = len(reply)
        header = write_header(getattr(reply, "opcode", BINARY), size, masked=self.client)
        if not self.client:
            return header + reply
        mask = self._new_mask()
        return header + mask + apply_mask(reply, 0, size, mask)


def _random_mask() -> bytes:
    return secrets.token_bytes(4)


class WebSocketDecoder(Decoder):
    """Holds the payloads of an incomplete message, joined; and an incomplete header or control frame.

    Payloads are unmasked, and text is checked, as they are received: an invalid byte is an error at once, and so is a
    header that no valid frame can begin with."""

    __slots__ = (
        *("_content", "_final", "_fragments", "_framing", "_held", "_left", "_limit", "_mask", "_masked", "_message"),
        *("_tail", "ended", "surplus"),
    )

    def __init__(self, framing: WebSocket) -> None:
        super().__init__()
        self.ended = self.surplus = False
        self._framing = framing
        self._limit = framing.limit
        #: The expected mask bit of the second byte of a frame.
        self._masked = 0 if framing.client else MASKED
        #: An incomplete header, or an incomplete control frame.
        self._held = bytearray()
        #: Opcode of the message in progress: TEXT or BINARY; 0 between messages.
        self._message = 0
        self._content = bytearray()
        #: Last bytes of `_content` that begin a character of several bytes: at most three.
        self._tail = b""
        self._fragments = 0
        # The data frame in progress: the remaining bytes of its payload, their mask, and the FIN bit.
        self._left = 0
        self._mask = b""
        self._final = False

    @property
    def pending(self) -> bool:
        return bool(self._held or self._message)

    @property
    def buffered(self) -> int:
        return self._held.__alloc__() + self._content.__alloc__()

    def decode(self, data: bytes) -> Sequence[bytes]:
        if self.ended:
            self.surplus |= bool(data)
            return ()
        if self.error is not None:
            return ()
        messages: list[bytes] = []
        try:
            self._take(data, messages)
        except FramingError as error:
            self._forget()
            error.apology = self._framing.encode(error.apology)
            self.error = error.with_traceback(None)  # its frames refer to the received bytes
        return messages

    def finish(self) -> Sequence[bytes]:
        if self.error is None and self.pending:
            part = f"{len(self._content)} bytes into a message" if self._message else "within a frame"
            self._forget()
            self.error = Incomplete(f"socket closed {part}")
        return ()

    def _take(self, data: bytes, messages: list[bytes]) -> None:
        held = self._held
        source: bytes | bytearray = data
        if held:
            held += data
            source = held
        start, have = 0, len(source)
        if self._left:
            start = self._take_payload(source, start, messages)
        client = self._framing.client
        while start < have:
            if not self._message and (start := self._take_whole(source, start, messages)) == have:
                break
            header = read_header(source, start, client, self._message != 0)
            if header is None:
                break
            begin, length = header
            first = source[start]
            if first & CONTROL:
                begin += 0 if client else MASK
                end = begin + length
                if end > have:
                    break
                self._take_control(first & OPCODE, self._unmask(source, begin, end), messages)
                if self.ended:
                    self.surplus = end < have
                    return
                start = end
                continue
            total = len(self._content) + length
            if total > self._limit:
                raise too_big(f"a message of {total} bytes or more; {self._limit} are allowed")
            if not client:
                begin += MASK
                if begin > have:
                    break
                self._mask = bytes(source[begin - MASK : begin])
            self._begin_frame(first, length)
            start = self._take_payload(source, begin, messages)
        if source is held:
            del held[:start]
        else:
            held += data[start:]

    def _take_whole(self, source: bytes | bytearray, start: int, messages: list[bytes]) -> int:
        """Take complete messages of one frame each, the usual input; return the end of the taken bytes.

        A fast path: it stops at any other frame, also at an invalid one, and within the last six bytes, which is the
        length of the shortest masked frame.
        """
        have, masked = len(source), self._masked
        while have - start >= 6:
            first = source[start]
            length = source[start + 1] - masked
            begin = start + 2
            if length == SHORT:
                length = source[begin] << 8 | source[begin + 1]
                begin += 2
                if length < SHORT:
                    break
            elif not 0 <= length < SHORT:
                break
            if masked:
                begin += MASK
            end = begin + length
            if end > have or length > self._limit or (first != _WHOLE_TEXT and first != _WHOLE_BINARY):
                break
            payload = apply_mask(source, begin, end, source[begin - MASK : begin]) if masked else source[begin:end]
            if first == _WHOLE_TEXT:
                if not payload.isascii():
                    try:
                        utf_8_decode(payload, "strict", True)
                    except UnicodeDecodeError:
                        break
                messages.append(_new_bytes(Text, payload))
            else:
                messages.append(bytes(payload))
            start = end
        return start

    def _begin_frame(self, first: int, length: int) -> None:
        """Begin a data frame: `first` is its first byte, `length` that of its payload.  Raises `FramingError`."""
        self._fragments += 1
        if self._fragments > FRAGMENTS + len(self._content) // SHORT_FRAGMENT:
            raise too_big(f"more than {FRAGMENTS} fragments, and on average less than {SHORT_FRAGMENT} bytes in each")
        self._message = self._message or first & OPCODE
        self._final = first >= FINAL
        self._left = length

    def _take_payload(self, source: bytes | bytearray, start: int, messages: list[bytes]) -> int:
        """Take the payload of a data frame from ``source[start:]``; return the end of the taken bytes.

        Deliver the message if it is complete.
        """
        count = min(self._left, len(source) - start)
        end = start + count
        self._left -= count
        complete = self._final and not self._left
        if self._framing.client:
            piece = bytes(source[start:end])
        else:
            piece = apply_mask(source, start, end, self._mask)
            if self._left:
                self._mask = rotate(self._mask, count)
        if self._message == TEXT:
            self._check_text(piece, complete)
        if not complete:
            self._content += piece
            return end
        if self._content:
            self._content += piece
            piece = bytes(self._content)
        messages.append(Text.received(piece) if self._message == TEXT else piece)
        self._forget_message()
        return end

    def _check_text(self, piece: bytes, complete: bool) -> None:
        """Check the next bytes of a text message.  Raises `FramingError` at the first byte that UTF-8 does not allow
        there."""
        if not self._tail and piece.isascii():
            return
        piece = self._tail + piece
        try:
            used = utf_8_decode(piece, "strict", complete)[1]
        except UnicodeDecodeError:
            raise invalid_text("a text message") from None
        self._tail = tail = piece[used:]
        # CPython finds a surrogate only with its third byte, for the sake of `surrogatepass`.
        if len(tail) == 2 and tail[0] == 0xED and tail[1] >= 0xA0:
            raise invalid_text("a text message")

    def _unmask(self, source: bytes | bytearray, begin: int, end: int) -> bytes:
        """Return the payload of a control frame."""
        if self._framing.client:
            return bytes(source[begin:end])
        return apply_mask(source, begin, end, bytes(source[begin - MASK : begin]))

    def _take_control(self, opcode: int, payload: bytes, messages: list[bytes]) -> None:
        if opcode == PING:
            messages.append(Ping(payload))
        elif opcode == CLOSE:
            _check_close(payload)
            messages.append(Close.received(payload))
            # Nothing follows a Close, so a message in progress is never complete.
            self._forget()
            self.ended = True
        else:
            messages.append(Pong(payload))

    def _forget_message(self) -> None:
        self._message = self._fragments = 0
        self._tail = b""
        if self._content:
            self._content = bytearray()

    def _forget(self) -> None:
        self._forget_message()
        self._held = bytearray()
        self._left = 0


def _check_close(payload: bytes) -> None:
    """Raise `FramingError` for an invalid payload of a Close (RFC 6455, section 5.5.1)."""
    if len(payload) == 1:
        raise malformed("a Close of one byte; none, or a code of two bytes, is expected")
    if payload and not is_sendable(code := int.from_bytes(payload[:2], "big")):
        raise malformed(f"a Close with code {code}, which must not be sent")
    try:
        utf_8_decode(payload[2:], "strict", True)
    except UnicodeDecodeError:
        raise invalid_text("the reason of a Close") from None
