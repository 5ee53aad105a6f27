"""State of one conversation: a decoder and a service.  No sockets, no clocks, no threads, no log.

The contract, in one sentence, and fuzzed as such in ``tests/serving``:

    *For any bytes, `Conversation.receive` returns bytes and may set an ending; it never raises.*

An engine moves bytes between a socket and a conversation, and reads `Conversation.state` once per turn
(`daemons.serving.conversation.states`).  This module has the decoder's side; that of the service is
`daemons.serving.conversation.replier`.

The state is PENDING while complete messages wait for their reply, or while a reply has further pieces.  A reply may be
an iterator of pieces: each call of `proceed` takes one batch of them, and the next message is answered after the last
piece.  A piece may be a `FileSlice`.  An engine that can send it with sendfile(2) calls `proceed(files=True)`, and then
sends the bytes of `file_slice` after the returned bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from daemons.framings import Decoder, FramingError, Incomplete, Oversize
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.replier import Replier
from daemons.serving.conversation.reply_cache import CachedReply
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.service import Service
from daemons.serving.conversation.service_binding import UNKNOWN, ServiceBinding
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING, WAITING

#: Until Python 3.12, looking up a member of an enumeration is slow.
DONE = Ending.DONE

#: Value of `Conversation.replies` where no cache may be used, for example under TLS.
NOTHING: dict[bytes, CachedReply] = {}


class Conversation(Replier):
    """Conversation of one peer with `service`; `binding` is shared by all conversations of the service.

    `find_peer` is called when the talk begins: behind a proxy, the peer's address is not known earlier."""

    __slots__ = ("_decoder", "_input_ended", "replies", "respond_if_known")

    def __init__(
        self,
        service: Service,
        binding: ServiceBinding | None = None,
        find_peer: Callable[[], Peer] | None = None,
    ) -> None:
        super().__init__(service, binding, find_peer)
        binding = self._binding
        #: `ReplyCache.replies`, valid while the state is IDLE.  An engine may look up an input here itself, to save the
        #: call of `receive`.
        self.replies = binding.cache.replies
        #: `ServiceBinding.respond_if_known`, valid while the state is IDLE; None if it would always return UNKNOWN.
        self.respond_if_known: Callable[[bytes], object] | None = binding.respond_if_known if binding.plain else None
        self._decoder: Decoder | None = None
        self._input_ended = False

    def receive(self, data: bytes) -> bytes:
        """Process received bytes, cut anywhere; ``b""`` is the end of the input.

        Return the bytes to send; set `state` and `ending`.
        """
        if not self.state:  # IDLE is 0; this test takes half the time of a comparison
            binding = self._binding
            cache = binding.cache
            if (paused := cache.paused) > 0 and data and (decoder := self._decoder) is not None:
                # A decoder is created at the first input, so a talk has begun already.
                cache.paused = paused - 1
                try:
                    messages = decoder.decode(data)
                except BaseException as failure:
                    return self._fail(failure)
                return self._answer_all(messages)
            if binding.plain and (result := binding.respond_if_known(data)) is not UNKNOWN:
                self.messages += 1
                return result if type(result) is bytes else self.encode_result(result)
            if binding.talks and self._talk is None and data:
                # A talk that does not greet begins with the first input.
                greeting = self.open()
                return greeting + self.receive(data)
            known_messages = cache.framed.get(data)
            if known_messages is not None:
                # The state stays IDLE, unless the reply ends the conversation or comes in pieces.
                return self._answer(known_messages[0]) if len(known_messages) == 1 else self._answer_all(known_messages)
            known = self.replies.get(data)
            if known is not None:
                self.messages += known[1]
                return known[2]
            if not data and self._decoder is None:
                pushed = self.deliver()
                self._end(DONE)  # nothing is held, so nothing is incomplete
                return pushed
            try:
                messages = self._decode(data)
            except BaseException as failure:
                return self._fail(failure)
            reply = self._answer_all(messages)
            if messages and self.state == IDLE:
                cache.put(data, messages, reply)
            return reply
        if self.state == OVER:
            return b""
        try:
            messages = self._decode(data)
        except BaseException as failure:
            return self._fail(failure)
        return self._answer_all(messages)

    def receive_all(self, data: bytes) -> bytes:
        """Process a datagram as the whole input.  As `receive`, but an empty datagram may be a message."""
        try:
            messages = [*self._decode(data), *self._decode(b"")] if data else self._decode(b"")
        except BaseException as failure:
            return self._fail(failure)
        return self._answer_all(messages)

    def proceed(self, *, files: bool = False) -> bytes:
        """Continue a reply in pieces, then answer waiting messages, up to a batch; return the bytes to send.

        With `files`, the caller then also sends the bytes of `file_slice`, unless it is None, and removes sent bytes
        with `FileSlice.take`, before the next call.
        """
        waiting = self._waiting
        replies: list[bytes] = []
        size = 0
        if self._pieces is not None:
            replies.append(self._draw(self._pieces, files))
            size = len(replies[0])
        while waiting and size < BATCH and self._pieces is None and not self._waits:
            reply = self._answer(waiting.popleft())
            replies.append(reply)
            size += len(reply)
        if self.state != OVER:
            if self._streams or (waiting and not self._waits):
                self.state = PENDING
            else:
                replies.append(self._settle())
                if self._peer is not None:
                    replies.append(self.deliver())
        return replies[0] if len(replies) == 1 else b"".join(replies)

    def resume(self) -> bytes:
        """In state WAITING: send a reply that has come, or continue the talk with its value, or with None after the
        timeout; return the bytes to send."""
        awaited = self._awaited
        if awaited is None or self._pieces is not None or self.state == OVER:
            return b""
        self._awaited = None
        self.state = IDLE
        if isinstance(awaited, Future):
            reply = self._encode_future(awaited)
        else:
            assert self._peer is not None
            reply = self._continue(self._peer.take_value())
        if self._is_over():
            return reply
        return reply if self._streams else b"".join((reply, self.proceed()))

    @property
    def reason(self) -> str:
        """Detail of a framing error, for the log; often empty."""
        error = None if self._decoder is None else self._decoder.error
        return "" if error is None else str(error)

    @property
    def buffered(self) -> int:
        """Bytes held between two turns: of an incomplete message, and of complete messages without a reply yet."""
        held = 0 if self._decoder is None else self._decoder.buffered
        if self._peer is not None:
            held += self._peer.pushed
        return held + sum(map(len, self._waiting)) if self._waiting else held

    def _decode(self, data: bytes) -> Sequence[bytes]:
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = self._binding.framing.decoder()
        if data:
            return decoder.decode(data)
        self._input_ended = True
        return decoder.finish()

    def _answer_all(self, messages: Sequence[bytes]) -> bytes:
        if self._pieces is None and not self._waiting and len(messages) < 2 and (not messages or not self._waits):
            reply = self._answer(messages[0]) if messages else b""
            return reply if self.state == OVER or self._pieces is not None else reply + self._settle()
        if self._waiting is None:
            self._waiting = deque(messages)
        else:
            self._waiting.extend(messages)
        return self.proceed()

    def _settle(self) -> bytes:
        """Set the state once no message waits for a reply; return an apology if the input cannot be decoded."""
        if self._awaited is not None:
            self.state = WAITING
            return b""
        decoder = self._decoder
        error = None if decoder is None else decoder.error
        if error is not None:
            pushed = self.deliver()
            self._end(_ending_of(error))
            return pushed if self.ending is Ending.CUT else pushed + (error.apology or self._apologize())
        if self._input_ended or (decoder is not None and decoder.ended):
            pushed = self.deliver()
            self._end(Ending.FINISHED if not self._input_ended and decoder is not None and decoder.surplus else DONE)
            return pushed
        self.state = PARTIAL if decoder is not None and decoder.pending else IDLE
        return b""


def _ending_of(error: FramingError) -> Ending:
    if isinstance(error, Incomplete):
        return Ending.CUT
    return Ending.OVERSIZE if isinstance(error, Oversize) else Ending.MALFORMED
