"""The service's side of a conversation: it passes messages to a service, and encodes its replies.

Messages may be pushed to the peer at any time (`Peer.send`): they are part of the bytes that the next call returns, or
`deliver` returns them.  A push is never sent inside a reply.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import CoroutineType
from typing import Any

from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.peer import Peer, PeerGone
from daemons.serving.conversation.reply_stream import ReplyStream, not_bytes
from daemons.serving.conversation.service import Service, Talk
from daemons.serving.conversation.service_binding import Failure, ServiceBinding
from daemons.serving.conversation.states import IDLE, OVER, PENDING, WAITING
from daemons.serving.conversation.steps import StartTLS, Step, SwitchFraming, Wait


class Replier:
    """Base class of `Conversation`: it replies to messages, and keeps the state of the talk.

    `find_peer` is called when the talk begins: behind a proxy, the peer's address is not known earlier."""

    # A daemon may have ten thousand of these, most of them idle: objects that an idle one does not need are created
    # on first use.
    __slots__ = (
        "_awaited",
        "_binding",
        "_find_peer",
        "_peer",
        "_pieces",
        "_returned",
        "_talk",
        "_waiting",
        "ending",
        "failure",
        "messages",
        "state",
    )

    def __init__(self, service: Service, binding: ServiceBinding | None, find_peer: Callable[[], Peer] | None) -> None:
        self._binding = binding or ServiceBinding(service)
        self._find_peer = find_peer
        self._talk: Talk | None = None
        #: Remaining pieces of a reply.
        self._pieces: ReplyStream | None = None
        #: Complete messages without a reply yet.
        self._waiting: deque[bytes] | None = None
        #: The peer of the talk.
        self._peer: Peer | None = None
        #: The wait of the talk, or the future of a reply.
        self._awaited: Wait | Future[Any] | None = None
        #: Whether the talk has returned the future of its last reply.
        self._returned = False
        #: One of `daemons.serving.conversation.states`.
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
        except BaseException as failure:
            return self._fail(failure)
        return self._continue(None)

    def begin(self) -> Talk:
        """Return a new talk of a service that overrides `Service.talk`."""
        find_peer, self._find_peer = self._find_peer, None  # it may refer to this conversation: break the cycle
        self._peer = peer = Peer() if find_peer is None else find_peer()
        peer.begin(self._binding.encode)
        return self._binding.service.talk(peer)

    def identify(self, certificate: str) -> None:
        """Set `Peer.certificate`, before the talk begins."""
        if not self._binding.talks:
            return
        find_peer = self._find_peer or Peer

        def find() -> Peer:
            peer = find_peer()
            peer.certificate = certificate
            return peer

        self._find_peer = find

    def encode_result(self, result: object) -> bytes:
        """Encode a result of `ServiceBinding.respond_if_known` that is not bytes.

        Return the bytes to send; set `state` and `ending`, as `receive` does."""
        if isinstance(result, Failure):
            return self._fail(result.reason)
        try:
            return self._encode(result)
        except BaseException as failure:
            return self._fail(failure)

    def deliver(self) -> bytes:
        """Return the bytes of messages pushed to the peer since the last call; none while a reply is being sent.

        Call it in any state but SHAKING; then read `state`, as after `receive`."""
        peer = self._peer
        if peer is None or self._pieces is not None or self.state == OVER:
            return b""
        return peer.take()

    @property
    def pushed(self) -> bool:
        """Whether messages pushed to the peer are unsent."""
        return self._peer is not None and self._peer.pushed > 0

    @property
    def overflowed(self) -> bool:
        """Whether more bytes were pushed to the peer than may be buffered."""
        return self._peer is not None and self._peer.overflowed

    @property
    def ready(self) -> bool:
        """In state WAITING: whether the value or the reply is there, so that `resume` may be called."""
        awaited = self._awaited
        if isinstance(awaited, Future):
            return awaited.done()
        return self._peer is not None and self._peer.notified

    def call_when_ready(self, action: Callable[[], object]) -> None:
        """In state WAITING: call `action`, from any thread, when a reply has come.  For a value, `Peer` does so."""
        if isinstance(self._awaited, Future):
            self._awaited.add_done_callback(lambda future: action())

    @property
    def _streams(self) -> bool:
        """Whether further pieces of a reply are to be sent."""
        return self._pieces is not None

    @property
    def _waits(self) -> bool:
        """Whether the talk waits, or will once its present reply is sent."""
        return self._awaited is not None

    @property
    def timeout(self) -> float | None:
        """In state WAITING: maximum seconds to wait; None: no limit."""
        return self._awaited.timeout if isinstance(self._awaited, Wait) else None

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

        Nothing can be pushed to the peer any more.  A second call does nothing."""
        if self._peer is not None:
            self._peer.leave()
        if isinstance(self._awaited, Future):
            self._awaited.cancel()
            self._awaited = None
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

    def _answer(self, message: bytes) -> bytes:
        self.messages += 1
        if self._talk is not None:
            return self._continue(message)
        try:
            reply = self._binding.respond(message)
            if type(reply) is bytes and self._binding.encode is None:
                return reply
            return self._encode(reply)
        except BaseException as failure:
            # StopIteration, too, is a bug of the service, such as next() on an exhausted iterator.
            return self._fail(failure)

    def _continue(self, value: Any) -> bytes:
        """Pass a message, or the value of a wait, to the talk; return its reply, after earlier pushes."""
        talk: Any = self._talk  # unlike its annotation says, a service may have returned anything
        binding = self._binding
        try:
            reply = self._encode(talk.send(value))
        except StopIteration as stop:
            reply = self._send_last(stop)
        except BaseException as failure:
            reply = self._fail(failure)
        # After a change of the framing, pushes in the old one are in the reply, and those in the new one follow it.
        return self._after_pushes(reply) if self._binding is binding else reply

    def _after_pushes(self, reply: bytes) -> bytes:
        """Return `reply`, or the first of its pieces, after the pushes that preceded it."""
        peer = self._peer
        return peer.take() + reply if peer is not None and peer.pushed else reply

    def _encode(self, reply: object) -> bytes:
        if isinstance(reply, bytes):
            encode = self._binding.encode
            return reply if encode is None else encode(reply)
        if reply is None and self._talk is not None:
            return b""
        if isinstance(reply, Step) and self._talk is not None:
            return self._take(reply)
        if isinstance(reply, CoroutineType):
            reply = self._binding.service.executor.run(reply)
        if isinstance(reply, Future):
            self._awaited = reply
            self.state = WAITING
            return b""
        name = type(self._binding.service).__name__
        if isinstance(reply, Iterator):
            if self._binding.encode is None:
                return self._begin_stream(ReplyStream(reply, name))
            framing = type(self._binding.framing).__name__
            raise TypeError(f"{name} replied in pieces; bytes are expected, which {framing} frames as a whole")
        raise not_bytes(f"{name}.talk yielded" if self._talk is not None else f"{name}.respond returned", reply)

    def _take(self, step: Step) -> bytes:
        """Take a step of the talk, and return its reply."""
        if not isinstance(step, Wait):
            raise self._refusal_of(step)
        if isinstance(step.reply, (Future, CoroutineType)):
            raise TypeError("Wait: the reply must be complete or in pieces; yield the future before the wait")
        self._awaited = step
        self.state = WAITING
        return self._encode(step.reply)

    def _refusal_of(self, step: Step) -> TypeError:
        """Return the error for a step that this conversation cannot take."""
        service = self._binding.service
        attribute = {SwitchFraming: "switches", StartTLS: "starts_tls"}.get(type(step))
        if attribute is None:
            advice = "which is no known step"
        elif getattr(service, attribute):
            advice = "which needs a conversation of the class that conversation_class() returns"
        else:
            advice = f"but does not declare {attribute} = True"
        return TypeError(f"{type(service).__name__}.talk yielded {type(step).__name__}, {advice}")

    def _encode_future(self, future: Future[Any]) -> bytes:
        """Return a reply that has come, after earlier pushes."""
        returned, self._returned = self._returned, False
        try:
            result = future.result(timeout=0)
            reply = self._send_last(StopIteration(result)) if returned else self._encode(result)
        except BaseException as failure:
            reply = self._fail(failure)
        return self._after_pushes(reply)

    def _is_over(self) -> bool:
        return self.state == OVER

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
            if isinstance(stop.value, Step):
                raise TypeError(f"{type(stop.value).__name__} was returned; it can only be yielded")
            reply = self._encode(stop.value)
        except BaseException as failure:
            return self._fail(failure)
        if isinstance(self._awaited, Future):
            self._returned = True
        elif self._pieces is not None:
            self._pieces.last = True
            if self._waiting is not None:
                self._waiting.clear()
        elif self.state != OVER:
            self._end(Ending.FINISHED)
        return reply

    def _fail(self, failure: BaseException) -> bytes:
        """End the conversation after an exception in the service or the framing; return an apology.

        This includes SystemExit, KeyboardInterrupt and CancelledError.  `Server.log_failure` re-raises an exception of
        a signal handler.
        """
        if isinstance(failure, PeerGone) and self.overflowed:
            self._end(Ending.STUCK)  # by pushes of the talk itself, which is no failure
            return b""
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
        self._awaited = None
        if self._waiting is not None:
            self._waiting.clear()  # cleared, not replaced: `proceed` holds a reference
