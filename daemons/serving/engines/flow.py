"""A conversation by readiness: nobody waits in it, so that there may be ten thousand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from daemons.serving.connection import Connection
from daemons.serving.conversation import NOTHING, Conversation

if TYPE_CHECKING:
    from daemons.serving.engines.loop import Loop


class Flow(Connection):
    """A connection with its conversation.

    `replies` are the conversation's while it is between two messages; then what has come before is answered
    from there, counted in `messages`, and the conversation not even looked at."""

    __slots__ = ("conversation", "descriptor", "replies", "server")
    messages: int

    def begin(self, server: Loop, conversation: Conversation) -> None:
        """Take up the conversation."""
        self.server = server
        self.conversation = conversation
        self.replies = NOTHING  # before it has been opened
        self.descriptor = self.socket.fileno()

    @property
    def suspended(self) -> bool:
        """Whether a worker of the pool has it: no peer has a deadline while it is we who take our time."""
        return self.deadline == math.inf

    @property
    def stays_until(self) -> float:
        """Until when (monotonic), between two messages, it is not to be closed for the daemon's stopping."""
        return 0.0 if self.so_far()[0] else self.newcomer_until

    def so_far(self) -> tuple[int, int, int]:
        # Under a raw handler of the pool there is no conversation.
        if (conversation := getattr(self, "conversation", None)) is None:
            return 0, self.received, self.sent
        return self.messages + conversation.messages, self.received, self.sent
