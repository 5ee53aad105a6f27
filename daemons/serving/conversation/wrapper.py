"""A conversation around a conversation: another layer of what comes over one connection, with the same contract."""

from __future__ import annotations

from daemons.serving.conversation.conversation import NOTHING, SHAKING, Conversation
from daemons.serving.conversation.endings import Ending


class ConversationWrapper(Conversation):
    """`inner`, which begins when this layer is through; until then not a word is said, and the state is SHAKING."""

    __slots__ = ("_inner",)

    # Everything is `inner`'s: what the class above would set up for a conversation of its own stays unset.
    def __init__(self, inner: Conversation) -> None:
        self._inner = inner
        self.state = SHAKING
        self.ending = None
        self.failure = None
        self.messages = 0
        # What comes is not what the service is told.
        self.replies = NOTHING
        self.again = None

    def open(self) -> bytes:
        """Nothing: the peer speaks first, and the greeting follows."""
        return b""

    @property
    def buffered(self) -> int:
        return self._inner.buffered

    @property
    def span(self) -> None:
        """It is read."""

    @property
    def reason(self) -> str:
        return self._inner.reason

    def close(self) -> None:
        self._inner.close()
        if self._inner.failure is not None:
            self.failure = self._inner.failure
            self.ending = Ending.FAILED
