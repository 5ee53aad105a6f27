"""Conversation that decodes one message at a time, so that its talk may change the framing, or begin TLS.

All other conversations decode every complete message of an input at once, which is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import CoroutineType
from typing import Any

from daemons.framings import Malformed
from daemons.serving.conversation.conversation import DONE, Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.peer import Peer
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.service import Service, Talk
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.conversation.states import OVER, PENDING
from daemons.serving.conversation.steps import StartTLS, Step, SwitchFraming


class SteppingConversation(Conversation):
    """Conversation with a service that `switches` or `starts_tls`.

    A message is decoded only when the talk is ready for it, so whenever the talk yields, the decoder holds nothing, and
    the bytes behind the last message are in `_input`.  Nothing is cached: how an input is decoded depends on the talk.
    """

    __slots__ = ("_at", "_finished", "_input", "can_start_tls", "starting_tls")

    def __init__(
        self,
        service: Service,
        binding: ServiceBinding | None = None,
        find_peer: Callable[[], Peer] | None = None,
    ) -> None:
        super().__init__(service, binding, find_peer)
        #: ``_input[_at:]`` is received and not decoded yet.
        self._input = b""
        self._at = 0
        #: Whether the end of the input has been passed to the decoder.
        self._finished = False
        #: Whether the talk may yield `StartTLS`: set by `UpgradableConversation`.
        self.can_start_tls = False
        #: Whether the talk has yielded `StartTLS`, and the handshake is not complete.
        self.starting_tls = False

    def begin(self) -> Talk:
        peer = (self._find_peer or Peer)()
        peer.can_start_tls = self.can_start_tls
        self._find_peer = lambda: peer
        return super().begin()

    def identify(self, certificate: str) -> None:
        if self._peer is None:
            super().identify(certificate)
        else:
            self._peer.certificate = certificate

    def receive(self, data: bytes) -> bytes:
        if self.state < PENDING and data and self._talk is not None:
            return self._receive_next(data)
        if self.state == OVER:
            return b""
        if data:
            self._input, self._at = self._input[self._at :] + data, 0
        else:
            self._input_ended = True
        if self._talk is not None:
            return self.proceed()
        if not data:
            self._end(DONE)
            return b""
        greeting = self.open()
        return greeting + self.proceed()

    def _receive_next(self, data: bytes) -> bytes:
        """Process `data` in state IDLE or PARTIAL, in which all earlier input is decoded: usually one message."""
        decoder = self._decoder
        try:
            if decoder is None:
                decoder = self._decoder = self._binding.framing.decoder()
            message, end = decoder.decode_one(data, 0)
        except BaseException as failure:
            return self._fail(failure)
        if message is None:
            return self._settle()
        if end < len(data):
            self._input, self._at = data, end
        self.messages += 1
        reply = self._continue(message)
        if self._pieces is not None or self._is_over():
            return reply
        return reply + (self.proceed() if self._input else self._settle())

    def receive_all(self, data: bytes) -> bytes:
        self._input, self._input_ended = data, True
        self._decoder = self._decoder or self._binding.framing.decoder()  # an empty datagram may be a message
        return self.proceed()

    def proceed(self, *, files: bool = False) -> bytes:
        replies: list[bytes] = []
        size = 0
        if self._pieces is not None:
            replies.append(self._draw(self._pieces, files))
            size = len(replies[0])
        while size < BATCH and self._pieces is None and self._awaited is None and self.state != OVER:
            try:
                message = self._next()
            except BaseException as failure:
                replies.append(self._fail(failure))
                break
            if message is None:
                break
            reply = self._answer(message)
            replies.append(reply)
            size += len(reply)
        if self.state != OVER:
            if self._pieces is not None or (self._undecoded and self._awaited is None):
                self.state = PENDING
            else:
                replies.append(self._settle())
                replies.append(self.deliver())
        return replies[0] if len(replies) == 1 else b"".join(replies)

    def deliver(self) -> bytes:
        # A push after the reply that begins TLS must not be sent in clear.
        return b"" if self.starting_tls else super().deliver()

    def secure(self) -> bytes:
        """Continue after the TLS handshake; return the bytes to send."""
        assert self._peer is not None
        self._peer.secure = True
        self.starting_tls = False
        return self.deliver()

    @property
    def buffered(self) -> int:
        return super().buffered + len(self._input)

    @property
    def _undecoded(self) -> bool:
        """Whether there is input, or its end, that was not passed to the decoder."""
        return self._at < len(self._input) or (self._input_ended and not self._finished and self._decoder is not None)

    def _next(self) -> bytes | None:
        """Decode and return the next message; None if there is none."""
        if self._at < len(self._input):
            decoder = self._decoder = self._decoder or self._binding.framing.decoder()
            message, self._at = decoder.decode_one(self._input, self._at)
            if message is None or self._at >= len(self._input):
                self._input, self._at = b"", 0
            if message is not None:
                return message
        # Without a decoder there was no input in this framing, and an empty stream is no message.
        if self._undecoded:
            assert self._decoder is not None
            self._finished = True
            messages = self._decoder.finish()
            if len(messages) > 1:
                name = type(self._binding.framing).__name__
                raise TypeError(
                    f"{name} ended with {len(messages)} messages; at most one is expected with decode_one()"
                )
            if messages:
                return messages[0]
        return None

    def _take(self, step: Step) -> bytes:
        service = self._binding.service
        if isinstance(step, SwitchFraming) and service.switches:
            if isinstance(step.reply, (Future, CoroutineType)):
                raise TypeError("SwitchFraming: the reply must be complete or in pieces; yield the future before it")
            reply = self._encode(step.reply)
            return self._switch(step) + reply
        if isinstance(step, StartTLS) and service.starts_tls:
            return self._start_tls(step)
        return super()._take(step)

    def _encode_future(self, future: Future[Any]) -> bytes:
        if not future.cancelled() and future.exception() is None:
            result = future.result()
            if isinstance(result, (SwitchFraming, StartTLS)):
                name = type(result).__name__
                return self._fail(TypeError(f"{name} was the result of a future; it can only be yielded"))
        return super()._encode_future(future)

    def _switch(self, step: SwitchFraming) -> bytes:
        """Change the framing; return the pushes in the old one, which must precede the reply."""
        assert self._peer is not None
        self._binding = self._binding.with_framing(step.framing)
        self._decoder = None
        self._finished = False
        return self._peer.switch(self._binding.encode)

    def _start_tls(self, step: StartTLS) -> bytes:
        if not self.can_start_tls:
            name = type(self._binding.service).__name__
            raise TypeError(f"{name}.talk yielded StartTLS, but peer.can_start_tls is False")
        if self._at < len(self._input):
            decoder = self._decoder = self._decoder or self._binding.framing.decoder()
            decoder.error = Malformed(f"{len(self._input) - self._at} bytes in clear behind the command to start TLS")
            self._end(Ending.MALFORMED)
            return self._apologize()
        if self._input_ended:
            self._end(Ending.HANDSHAKE)
            return b""
        assert self._peer is not None
        reply = self._encode(step.reply)
        self.can_start_tls = self._peer.can_start_tls = False
        self.starting_tls = True
        return reply

    def _end(self, ending: Ending) -> None:
        super()._end(ending)
        self._input, self._at = b"", 0


def conversation_class(service: Service) -> type[Conversation]:
    """Return the class of the conversations with `service`."""
    return SteppingConversation if service.steps else Conversation
