"""State of one conversation: a decoder and a service.  No sockets, no clocks, no threads, no log.

The contract, in one sentence, and fuzzed as such in ``tests/serving``:

    *For any bytes, `Conversation.receive` returns bytes and may set an ending; it never raises.*

An engine moves bytes between a socket and a conversation, and reads `Conversation.state` once per turn:

    IDLE      between two messages: nothing is held
    PARTIAL   part of a message is held
    PENDING   more output follows: write the returned bytes, then call `proceed`
    OVER      write the returned bytes, then close; `ending` is the reason
    SHAKING   a TLS handshake or a PROXY header is not complete (`daemons.serving.conversation.wrapper`)

The state is PENDING while complete messages wait for their reply, or while a reply has further pieces.  A reply may be
an iterator of pieces: each call of `proceed` takes one batch of them, and the next message is answered after the last
piece.  A piece may be a `FileSlice`.  An engine that can send it with sendfile(2) calls `proceed(files=True)`, and then
sends the bytes of `file_slice` after the returned bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from daemons.framings import Decoder, FramingError, Incomplete, Oversize
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.reply_cache import CachedReply
from daemons.serving.conversation.reply_stream import BATCH, ReplyStream, not_bytes
from daemons.serving.conversation.service import Service, Talk
from daemons.serving.conversation.service_binding import UNKNOWN, Failure, ServiceBinding

IDLE, PARTIAL, PENDING, OVER, SHAKING = range(5)

#: Until Python 3.12, looking up a member of an enumeration is slow.
DONE = Ending.DONE

#: Value of `Conversation.replies` where no cache may be used, for example under TLS.
NOTHING: dict[bytes, CachedReply] = {}


class Conversation:
    """Conversation of one peer with `service`; `binding` is shared by all conversations of the service.

    `find_peer` is called when the talk begins: behind a proxy, the peer's address is not known earlier."""

    # A daemon may have ten thousand of these, most of them idle: objects that an idle one does not need are created
    # on first use.
    __slots__ = (
        "_binding",
        "_decoder",
        "_find_peer",
        "_input_ended",
        "_pieces",
        "_talk",
        "_waiting",
        "ending",
        "failure",
        "messages",
        "replies",
        "respond_if_known",
        "state",
    )

    def __init__(
        self,
        service: Service,
        binding: ServiceBinding | None = None,
        find_peer: Callable[[], Peer] | None = None,
    ) -> None:
        self._binding = binding = binding or ServiceBinding(service)
        self._find_peer = find_peer
        #: `ReplyCache.replies`, valid while the state is IDLE.  An engine may look up an input here itself, to save the
        #: call of `receive`.
        self.replies = binding.cache.replies
        #: `ServiceBinding.respond_if_known`, valid while the state is IDLE; None if it would always return UNKNOWN.
        self.respond_if_known: Callable[[bytes], object] | None = binding.respond_if_known if binding.plain else None
        self._decoder: Decoder | None = None
        self._talk: Talk | None = None
        #: Remaining pieces of a reply.
        self._pieces: ReplyStream | None = None
        #: Complete messages without a reply yet.
        self._waiting: deque[bytes] | None = None
        self._input_ended = False
        #: IDLE, PARTIAL, PENDING or OVER.
        self.state = IDLE
        #: Reason for state OVER; None before.
        self.ending: Ending | None = None
        #: The exception behind Ending.FAILED, for the engine to log.
        self.failure: BaseException | None = None
        #: Number of messages answered.
        self.messages = 0

    def open(self) -> bytes:
        """Begin the talk and return its greeting, often empty, to be sent before anything is received."""
        if not self._binding.talks:
            return b""
        try:
            self._talk = self.begin()
            return self._encode(next(self._talk))
        except StopIteration as stop:
            return self._send_last(stop)
        except BaseException as failure:
            return self._fail(failure)

    def begin(self) -> Talk:
        """Return a new talk of a service that overrides `Service.talk`."""
        find_peer, self._find_peer = self._find_peer, None  # it may refer to this conversation: break the cycle
        return self._binding.service.talk(Peer() if find_peer is None else find_peer())

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
                self._end(DONE)  # nothing is held, so nothing is incomplete
                return b""
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

    def encode_result(self, result: object) -> bytes:
        """Encode a result of `ServiceBinding.respond_if_known` that is not bytes.

        Return the bytes to send; set `state` and `ending`, as `receive` does."""
        if isinstance(result, Failure):
            return self._fail(result.reason)
        try:
            return self._encode(result)
        except BaseException as failure:
            return self._fail(failure)

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
        while waiting and size < BATCH and self._pieces is None:
            reply = self._answer(waiting.popleft())
            replies.append(reply)
            size += len(reply)
        if self.state != OVER:
            if waiting or self._pieces is not None:
                self.state = PENDING
            else:
                replies.append(self._settle())
        return replies[0] if len(replies) == 1 else b"".join(replies)

    @property
    def reason(self) -> str:
        """Detail of a framing error, for the log; often empty."""
        error = None if self._decoder is None else self._decoder.error
        return "" if error is None else str(error)

    @property
    def buffered(self) -> int:
        """Bytes held between two turns: of an incomplete message, and of complete messages without a reply yet."""
        held = 0 if self._decoder is None else self._decoder.buffered
        return held + sum(map(len, self._waiting)) if self._waiting else held

    @property
    def file_slice(self) -> FileSlice | None:
        """Slice of a file that is next in a reply, if sendfile(2) can send it."""
        file_slice = None if self._pieces is None else self._pieces.file_slice
        return file_slice if file_slice is not None and file_slice.sendable else None

    def fail(self, failure: BaseException) -> None:
        """End the conversation because a reply cannot be sent."""
        self._fail(failure)

    @property
    def closable(self) -> bool:
        """Whether `close` may run code of the service."""
        return self._talk is not None or self._pieces is not None

    def close(self) -> None:
        """Close the iterator of an unfinished reply and the talk, so that their ``finally`` clauses run.

        A second call does nothing."""
        if self._pieces is not None:
            self._close(self._pieces)
            self._pieces = None
        if self._talk is not None:
            self._close(self._talk)
            self._talk = None

    def _close(self, closable: Talk | ReplyStream) -> None:
        try:
            closable.close()
        except BaseException as failure:
            self._fail(failure)

    def _decode(self, data: bytes) -> Sequence[bytes]:
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = self._binding.service.framing.decoder()
        if data:
            return decoder.decode(data)
        self._input_ended = True
        return decoder.finish()

    def _answer_all(self, messages: Sequence[bytes]) -> bytes:
        if self._pieces is None and not self._waiting and len(messages) < 2:
            reply = self._answer(messages[0]) if messages else b""
            return reply if self.state == OVER or self._pieces is not None else reply + self._settle()
        if self._waiting is None:
            self._waiting = deque(messages)
        else:
            self._waiting.extend(messages)
        return self.proceed()

    def _answer(self, message: bytes) -> bytes:
        self.messages += 1
        try:
            if self._talk is None:
                reply = self._binding.respond(message)
                if type(reply) is bytes and self._binding.encode is None:
                    return reply
                return self._encode(reply)
            return self._encode(self._talk.send(message))
        except StopIteration as stop:
            # From a talk: it returned its last reply.  From respond(): a bug, such as next() on an exhausted iterator.
            return self._fail(stop) if self._talk is None else self._send_last(stop)
        except BaseException as failure:
            return self._fail(failure)

    def _encode(self, reply: object) -> bytes:
        if isinstance(reply, bytes):
            encode = self._binding.encode
            return reply if encode is None else encode(reply)
        if reply is None and self._talk is not None:
            return b""
        name = type(self._binding.service).__name__
        if isinstance(reply, Iterator):
            if self._binding.encode is None:
                return self._begin_stream(ReplyStream(reply, name))
            framing = type(self._binding.service.framing).__name__
            raise TypeError(f"{name} replied in pieces; bytes are expected, which {framing} frames as a whole")
        raise not_bytes(f"{name}.talk yielded" if self._talk is not None else f"{name}.respond returned", reply)

    def _begin_stream(self, pieces: ReplyStream) -> bytes:
        """Begin a reply in pieces and return its first batch."""
        data = self._draw(pieces)
        if self._pieces is not None and self.state != OVER:
            self.state = PENDING
        return data

    def _draw(self, pieces: ReplyStream, files: bool = False) -> bytes:
        self._pieces = pieces
        data = pieces.draw(files)
        if pieces.failure is not None:
            self._fail(pieces.failure)
        elif pieces.over:
            self._close(pieces)
            self._pieces = None
            if pieces.last and self.state != OVER:
                self._end(Ending.FINISHED)
        return data

    def _send_last(self, stop: StopIteration) -> bytes:
        try:
            reply = self._encode(stop.value)
        except BaseException as failure:
            return self._fail(failure)
        if self._pieces is not None:
            self._pieces.last = True
            if self._waiting is not None:
                self._waiting.clear()
        elif self.state != OVER:
            self._end(Ending.FINISHED)
        return reply

    def _settle(self) -> bytes:
        """Set the state once no message waits for a reply; return an apology if the input cannot be decoded."""
        decoder = self._decoder
        error = None if decoder is None else decoder.error
        if error is not None:
            self._end(_ending_of(error))
            return b"" if self.ending is Ending.CUT else error.apology or self._apologize()
        if self._input_ended:
            self._end(DONE)
        elif decoder is not None and decoder.ended:
            self._end(Ending.FINISHED if decoder.surplus else DONE)
        else:
            self.state = PARTIAL if decoder is not None and decoder.pending else IDLE
        return b""

    def _fail(self, failure: BaseException) -> bytes:
        """End the conversation after an exception in the service or the framing; return an apology.

        This includes SystemExit, KeyboardInterrupt and CancelledError.  `Server.log_failure` re-raises an exception of
        a signal handler.
        """
        self.failure = failure
        self._end(Ending.FAILED)
        # If part of a reply has been sent, the peer would mistake an apology for the rest of the reply.
        return self._apologize() if self._pieces is None else b""

    def _apologize(self) -> bytes:
        assert self.ending is not None
        try:
            apology = self._binding.service.apology(self.ending)
            if not isinstance(apology, bytes):
                raise TypeError(f"apology() returned {type(apology).__name__}; bytes are expected")
        except BaseException as failure:
            self.failure = self.failure or failure
            self.ending = Ending.FAILED
            return b""
        return apology

    def _end(self, ending: Ending) -> None:
        self.state = OVER
        self.ending = ending
        if self._waiting is not None:
            self._waiting.clear()  # cleared, not replaced: `proceed` holds a reference


def _ending_of(error: FramingError) -> Ending:
    if isinstance(error, Incomplete):
        return Ending.CUT
    return Ending.OVERSIZE if isinstance(error, Oversize) else Ending.MALFORMED
