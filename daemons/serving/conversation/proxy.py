"""Conversation behind a proxy: a wrapper that reads the PROXY header, and then opens the inner conversation.

This is the outermost wrapper, outside of TLS, because the proxy sends the header first and unencrypted.  It passes the
header to the server (`StreamServer.apply_proxy_header`), since a conversation has no sockets and no log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from daemons.framings.base import FramingError
from daemons.framings.proxy import Header, HeaderDecoder
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import OVER, PENDING
from daemons.serving.conversation.wrapper import ConversationWrapper

#: Callback that receives the header, or the error in it.  It returns None, or an ending if it refuses the connection.
ApplyHeader: TypeAlias = Callable[[Header | FramingError], Ending | None]


class ProxiedConversation(ConversationWrapper):
    """Wrapper of `conversation`, which is opened, and may send a greeting, after the last byte of the PROXY header."""

    __slots__ = ("_apply_header", "_header_decoder", "_rest")

    def __init__(self, conversation: Conversation, apply_header: ApplyHeader) -> None:
        super().__init__(conversation)
        self._apply_header = apply_header
        #: Decoder of the header; None once the header is complete.
        self._header_decoder: HeaderDecoder | None = HeaderDecoder()
        #: Bytes received after the header, until they are passed to the inner conversation.
        self._rest = b""

    def receive(self, data: bytes) -> bytes:
        decoder = self._header_decoder
        if decoder is None:
            rest = self.proceed() if self._rest else b""
            return rest + self._copy_state(self._inner.receive(data))
        if self.state == OVER:
            return b""
        if data:
            decoder.decode(data)
        else:
            decoder.finish()
        result = decoder.header or decoder.error
        if result is None:
            return b""
        ending = self._apply_header(result)
        if ending is not None:
            self.state = OVER
            self.ending = ending
            return b""
        self._header_decoder = None
        self._rest = decoder.rest
        reply = self._copy_state(self._inner.open())
        # PENDING even if no bytes are left: the engine then calls `proceed` and replaces the handshake deadline.
        if self.state != OVER:
            self.state = PENDING
        return reply

    def proceed(self, *, files: bool = False) -> bytes:
        rest, self._rest = self._rest, b""
        if rest:
            return self._copy_state(self._inner.receive(rest))
        return self._copy_state(self._inner.proceed() if self._inner.state == PENDING else b"")

    def deliver(self) -> bytes:
        return b"" if self._header_decoder is not None or self._rest else self._copy_state(self._inner.deliver())

    def resume(self) -> bytes:
        return self._copy_state(self._inner.resume())

    @property
    def buffered(self) -> int:
        header = 0 if self._header_decoder is None else self._header_decoder.buffered
        return header + len(self._rest) + self._inner.buffered

    def _copy_state(self, reply: bytes) -> bytes:
        conversation = self._inner
        self.state = conversation.state
        self.messages = conversation.messages
        if self.state == OVER:
            self.ending = conversation.ending
            self.failure = conversation.failure
        return reply
