"""A conversation by readiness: nobody waits in it, so that there may be ten thousand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import IDLE, NOTHING, Conversation

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemons.serving.interfaces import ByReadiness


class LoopConnection(Connection):
    """A connection with its conversation.

    `replies` are the conversation's while it is between two messages; then what has come before is answered
    from there, counted in `messages`, and the conversation not even looked at.  `again` likewise.

    `made` is the conversation; None, where it need not greet, until something comes that is not answered from
    there: most visitors leave before."""

    __slots__ = ("again", "descriptor", "made", "replies", "server")
    messages: int

    def begin(self, server: ByReadiness, conversation: Conversation) -> None:
        """Take up the conversation."""
        self.server = server
        self.made: Conversation | None = conversation
        self.replies = NOTHING  # before it has been opened
        self.again: Callable[[bytes], object] | None = None
        self.descriptor = self.socket.fileno()

    @property
    def conversation(self) -> Conversation:
        """The conversation, which is made where it has not been yet."""
        if (conversation := self.made) is None:
            conversation = self.made = self.server.bare_conversation(self)
        return conversation

    def look_up(self, conversation: Conversation) -> None:
        """See to it that what has come before is answered from there, as long as that may be."""
        if conversation.state == IDLE:
            self.replies, self.again = conversation.replies, conversation.again
        else:
            self.replies, self.again = NOTHING, None

    @property
    def idle(self) -> bool:
        """Whether it is between two messages."""
        return self.made is None or self.made.state == IDLE

    @property
    def suspended(self) -> bool:
        """Whether a worker of the pool has it: no peer has a deadline while it is we who take our time."""
        return self.deadline == math.inf

    @property
    def stays_until(self) -> float:
        """Until when (monotonic), between two messages, it is not to be closed for the daemon's stopping."""
        return 0.0 if self.so_far()[0] else self.newcomer_until

    def so_far(self) -> tuple[int, int, int]:
        # Under a raw handler of the pool there is none, and nobody sees messages.
        made: Conversation | None = getattr(self, "made", None)
        return (self.messages or 0) + (0 if made is None else made.messages), self.received, self.sent
