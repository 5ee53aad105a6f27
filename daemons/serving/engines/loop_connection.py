"""Connections of event-driven engines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import IDLE, NOTHING, Conversation

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemons.serving.interfaces import EventDriven


class LoopConnection(Connection):
    """A connection with its conversation.

    `replies` is a view of the reply cache while the connection is idle: a hit is sent and counted in `messages` without
    involving the conversation.  `again` calls the service directly, likewise only while the connection is idle.

    `made` is the conversation.  Unless the service greets, it is None until the first input that the cache does not
    answer; most connections never need one."""

    __slots__ = ("again", "descriptor", "made", "replies", "server")
    messages: int

    def begin(self, server: EventDriven, conversation: Conversation) -> None:
        """Set the server and the conversation."""
        self.server = server
        self.made: Conversation | None = conversation
        self.replies = NOTHING  # until the conversation is open
        self.again: Callable[[bytes], object] | None = None
        self.descriptor = self.socket.fileno()

    @property
    def conversation(self) -> Conversation:
        """The conversation, created on first use."""
        if (conversation := self.made) is None:
            conversation = self.made = self.server.bare_conversation(self)
        return conversation

    def refresh_cache_view(self, conversation: Conversation) -> None:
        """Enable the reply cache while the connection is idle; disable it otherwise."""
        if conversation.state == IDLE:
            self.replies, self.again = conversation.replies, conversation.again
        else:
            self.replies, self.again = NOTHING, None

    @property
    def idle(self) -> bool:
        """Whether the connection is between two messages."""
        return self.made is None or self.made.state == IDLE

    @property
    def suspended(self) -> bool:
        """Whether a worker of the pool is serving the connection, so that no deadline applies."""
        return self.deadline == math.inf

    @property
    def close_after(self) -> float:
        """When (monotonic) a drain may close the connection while it is idle."""
        return 0.0 if self.so_far()[0] else self.grace_until

    def so_far(self) -> tuple[int, int, int]:
        # Under a raw handler of the pool there is no conversation, and messages are not counted.
        made: Conversation | None = getattr(self, "made", None)
        return (self.messages or 0) + (0 if made is None else made.messages), self.received, self.sent
