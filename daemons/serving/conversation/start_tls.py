"""Conversation that begins in clear, and may continue in TLS: a wrapper with the same contract."""

from __future__ import annotations

from collections.abc import Callable

from daemons.framings import Malformed
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import OVER, SHAKING
from daemons.serving.conversation.stepping import SteppingConversation
from daemons.serving.conversation.tls import TLS, Secured
from daemons.serving.conversation.tls_messages import HANDSHAKE
from daemons.serving.conversation.wrapper import ConversationWrapper


class UpgradableConversation(ConversationWrapper):
    """Wrapper of `conversation`.  When its talk yields `StartTLS`, the reply is sent in clear, and the state is SHAKING
    until the TLS handshake is complete."""

    __slots__ = ("_error", "_explain", "_layer", "_shook", "_tls")

    _inner: SteppingConversation

    def __init__(
        self, conversation: SteppingConversation, tls: TLS, explain: Callable[[str], None] = lambda reason: None
    ) -> None:
        super().__init__(conversation)
        conversation.can_start_tls = True
        self._tls = tls
        self._explain = explain
        #: The conversation that receives: the inner one, or its TLS wrapper.
        self._layer: Conversation = conversation
        #: Whether the first bytes of the handshake have been received.
        self._shook = False
        self._error: Malformed | None = None
        self.state = conversation.state

    def open(self) -> bytes:
        return self._copy_state(self._inner.open())

    def receive(self, data: bytes) -> bytes:
        if self.state == OVER:
            return b""
        if data and self._layer is not self._inner and not self._shook:
            self._shook = True
            if data[0] != HANDSHAKE:
                # Without this check, OpenSSL refuses it too.
                self._error = Malformed("bytes in clear behind the command to start TLS")
                self.state = OVER
                self.ending = Ending.MALFORMED
                return b""
        return self._copy_state(self._layer.receive(data))

    def proceed(self, *, files: bool = False) -> bytes:
        return b"" if self.state == OVER else self._copy_state(self._layer.proceed())

    def deliver(self) -> bytes:
        return b"" if self.state == OVER else self._copy_state(self._layer.deliver())

    def resume(self) -> bytes:
        return b"" if self.state == OVER else self._copy_state(self._layer.resume())

    @property
    def pushed(self) -> bool:
        # During the handshake nothing can be sent, so engines must not wait for it; `SteppingConversation.secure` does.
        return self.state != SHAKING and self._inner.pushed

    @property
    def buffered(self) -> int:
        return self._layer.buffered

    @property
    def reason(self) -> str:
        return self._inner.reason if self._error is None else str(self._error)

    def _copy_state(self, reply: bytes) -> bytes:
        layer = self._layer
        self.state = layer.state
        self.messages = layer.messages
        if self.state == OVER:
            self.ending = layer.ending
            self.failure = layer.failure
        elif self._inner.starting_tls and layer is self._inner:
            self._layer = _StartedTLS(self._inner, self._tls, self._explain)
            self.state = SHAKING
        return reply


class _StartedTLS(Secured):
    """TLS wrapper of a conversation that has begun in clear."""

    __slots__ = ()

    _inner: SteppingConversation

    def __init__(self, inner: SteppingConversation, tls: TLS, explain: Callable[[str], None]) -> None:
        super().__init__(inner, tls.context, explain)
        self.messages = inner.messages

    def _open_inner(self) -> bytes:
        return self._inner.secure()
