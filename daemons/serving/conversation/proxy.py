"""Behind a proxy: a conversation that begins when a PROXY header has said with whom.

Around the conversation, or around the TLS in which it is held: the proxy speaks first, in clear, then the peer.
The conversation knows no sockets and no log; what the header says goes to the server, which has both
(`StreamServer.apply_proxy_header`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from daemons.framings.base import FramingError
from daemons.framings.proxy import Header, HeaderDecoder
from daemons.serving.conversation.conversation import OVER, PENDING, Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.wrapper import ConversationWrapper

#: What is done with a header, or with the reason why there is none; the ending to come to, None: go on.
Introduce: TypeAlias = Callable[[Header | FramingError], Ending | None]


class ProxiedConversation(ConversationWrapper):
    """`conversation`, from the octet behind the PROXY header on.  Until then not a word is said, and the
    conversation, which may greet, is not opened."""

    __slots__ = ("_header", "_introduce", "_rest")

    def __init__(self, conversation: Conversation, introduce: Introduce) -> None:
        super().__init__(conversation)
        self._introduce = introduce
        #: None once it is read.
        self._header: HeaderDecoder | None = HeaderDecoder()
        self._rest = b""

    def receive(self, data: bytes) -> bytes:
        header = self._header
        if header is None:
            return self._said(self._inner.receive(data))
        if self.state == OVER:
            return b""
        if data:
            header.decode(data)
        else:
            header.finish()
        said = header.header or header.error
        if said is None:
            return b""
        ending = self._introduce(said)
        if ending is not None:
            self.state = OVER
            self.ending = ending
            return b""
        self._header = None
        self._rest = header.rest
        reply = self._said(self._inner.open())
        # Even where nothing waits: this is how an engine learns that a phase, with its deadline, is over.
        if self.state != OVER:
            self.state = PENDING
        return reply

    def proceed(self, *, files: bool = False) -> bytes:
        rest, self._rest = self._rest, b""
        if rest:
            return self._said(self._inner.receive(rest))
        return self._said(self._inner.proceed() if self._inner.state == PENDING else b"")

    @property
    def buffered(self) -> int:
        header = 0 if self._header is None else self._header.buffered
        return header + len(self._rest) + self._inner.buffered

    def _said(self, reply: bytes) -> bytes:
        conversation = self._inner
        self.state = conversation.state
        self.messages = conversation.messages
        if self.state == OVER:
            self.ending = conversation.ending
            self.failure = conversation.failure
        return reply
