"""One visitor's state: a framing's decoder and a service.  No sockets, no clocks, no threads, no log.

The contract, in one sentence, and fuzzed as such in ``tests/serving``:

    *For any bytes, `Conversation.receive` returns bytes and maybe comes to an ending; it never raises.*

An engine carries bytes to and fro and looks at `Conversation.state` once per turn:

    IDLE      between two messages: nothing is held
    PARTIAL   part of a message is held
    PENDING   complete messages still wait for their replies: write what was returned, then `proceed`
    OVER      write what was returned, then close; `ending` says why
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from daemons.framings import FramingError, Incomplete, Oversize
from daemons.serving.endings import Ending
from daemons.serving.service import Service, Talk

IDLE, PARTIAL, PENDING, OVER = range(4)

#: Replies are handed over in batches of about this many bytes, so that a peer that asks much and
#: reads nothing is bounded by one batch and one reply, not by all it asked for.
BATCH = 64 * 1024

#: What a pure service said is remembered for inputs of up to this many bytes (a whole pipeline of
#: short questions fits), with replies of up to so many, for this many inputs: 5 MiB at the very most.
REMEMBERED_INPUT = 1024
REMEMBERED_REPLY = 4096
REMEMBERED_COUNT = 1024


class Memory:
    """The replies of a pure service by the bytes that asked for them, shared by all conversations.

    When it is full it is emptied: a peer that asks nothing twice costs others speed, never memory.
    """

    __slots__ = ("_replies", "recall")

    def __init__(self) -> None:
        self._replies: dict[bytes, tuple[bytes, int]] = {}
        #: From input to (reply, how many messages the input held), or None.
        self.recall: Callable[[bytes], tuple[bytes, int] | None] = self._replies.get

    def keep(self, data: bytes, reply: bytes, messages: int) -> None:
        if len(data) <= REMEMBERED_INPUT and len(reply) <= REMEMBERED_REPLY:
            if len(self._replies) >= REMEMBERED_COUNT:
                self._replies.clear()
            self._replies[data] = reply, messages


class Conversation:
    """One visitor's talk with `service`; `memory` is shared by all visitors of a pure service."""

    __slots__ = (
        "_decoder",
        "_encode",
        "_input_ended",
        "_memory",
        "_service",
        "_talk",
        "_waiting",
        "ending",
        "failure",
        "messages",
        "state",
    )

    def __init__(self, service: Service, memory: Memory | None = None) -> None:
        self._service = service
        self._memory = memory
        self._decoder = service.framing.decoder()
        self._encode = service.framing.encode
        self._talk: Talk | None = None
        self._waiting: deque[bytes] = deque()
        self._input_ended = False
        #: IDLE, PARTIAL, PENDING or OVER.
        self.state = IDLE
        #: Why it is over; None before.
        self.ending: Ending | None = None
        #: The exception behind Ending.FAILED, for the engine to log.
        self.failure: BaseException | None = None
        #: How many messages have been answered.
        self.messages = 0

    def open(self) -> bytes:
        """The greeting, to be sent before anything is received; often nothing."""
        if type(self._service).talk is Service.talk:
            return b""
        try:
            self._talk = self._service.talk()
            return self._say(next(self._talk))
        except StopIteration as stop:
            return self._last_words(stop)
        except BaseException as failure:
            return self._fail(failure)

    def receive(self, data: bytes) -> bytes:
        """Take what came, any bytes cut anywhere; ``b""`` is the end of the input.  Returns the bytes
        to send, and sets `state` and `ending`."""
        if self.state == OVER:
            return b""
        memory = self._memory if self.state == IDLE else None
        if memory is not None and (remembered := memory.recall(data)) is not None:
            self.messages += remembered[1]
            return remembered[0]
        try:
            if data:
                messages = self._decoder.decode(data)
            else:
                messages = self._decoder.finish()
                self._input_ended = True
        except BaseException as failure:
            return self._fail(failure)
        self._waiting.extend(messages)
        reply = self.proceed()
        if memory is not None and messages and self.state == IDLE:
            memory.keep(data, reply, len(messages))
        return reply

    def proceed(self) -> bytes:
        """Answer the messages that wait, up to a batch; returns the bytes to send."""
        waiting = self._waiting
        replies: list[bytes] = []
        size = 0
        while waiting and size < BATCH and self.state != OVER:
            reply = self._answer(waiting.popleft())
            replies.append(reply)
            size += len(reply)
        if self.state != OVER:
            if waiting:
                self.state = PENDING
            else:
                replies.append(self._settle())
        return replies[0] if len(replies) == 1 else b"".join(replies)

    def close(self) -> None:
        """Let a talk that is still under way run its ``finally`` clauses: the visitor has left."""
        if self._talk is not None:
            try:
                self._talk.close()
            except BaseException as failure:
                self._fail(failure)

    def _answer(self, message: bytes) -> bytes:
        try:
            self.messages += 1
            if self._talk is None:
                return self._say(self._service.respond(message))
            return self._say(self._talk.send(message))
        except StopIteration as stop:
            # From a talk, its last words; from respond(), a next() that nobody caught.
            return self._fail(stop) if self._talk is None else self._last_words(stop)
        except BaseException as failure:
            return self._fail(failure)

    def _say(self, reply: object) -> bytes:
        if isinstance(reply, bytes):
            return self._encode(reply)
        if reply is None and self._talk is not None:
            return b""
        raise TypeError(f"{type(self._service).__name__} replied with {type(reply).__name__}; bytes are expected")

    def _last_words(self, stop: StopIteration) -> bytes:
        try:
            words = self._say(stop.value)
        except BaseException as failure:
            return self._fail(failure)
        self._end(Ending.FINISHED)
        return words

    def _settle(self) -> bytes:
        """Nothing waits for a reply any more: what is this conversation's state?"""
        error = self._decoder.error
        if error is not None:
            self._end(_ending_of(error))
            return b"" if self.ending is Ending.CUT else self._apologize()
        if self._input_ended:
            self._end(Ending.DONE)
        else:
            self.state = PARTIAL if self._decoder.pending else IDLE
        return b""

    def _fail(self, failure: BaseException) -> bytes:
        """Code that somebody else wrote has raised: anything, a SystemExit or CancelledError too, but for
        the KeyboardInterrupt of the person at the terminal, which is not meant for this visitor."""
        if isinstance(failure, KeyboardInterrupt):
            raise failure
        self.failure = failure
        self._end(Ending.FAILED)
        return self._apologize()

    def _apologize(self) -> bytes:
        assert self.ending is not None
        try:
            apology = self._service.apology(self.ending)
            if not isinstance(apology, bytes):
                raise TypeError(f"apology() returned {type(apology).__name__}; bytes are expected")
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            self.failure = self.failure or failure
            self.ending = Ending.FAILED
            return b""
        return apology

    def _end(self, ending: Ending) -> None:
        self.state = OVER
        self.ending = ending
        self._waiting.clear()


def _ending_of(error: FramingError) -> Ending:
    if isinstance(error, Incomplete):
        return Ending.CUT
    return Ending.OVERSIZE if isinstance(error, Oversize) else Ending.MALFORMED
