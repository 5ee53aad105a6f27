"""Connections of event-driven engines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import NOTHING, Conversation
from daemons.serving.conversation.states import IDLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemons.serving.interfaces import EventDriven


class LoopConnection(Connection):
    """A connection with its conversation.

    While the connection is idle, `replies` is the table of the reply cache, and `respond_if_known` calls the service
    for an input known to be one message.  The poller then sends the reply and counts it in `messages`, without
    involving the conversation.

    `existing_conversation` is None until `conversation` is first used: unless the service greets, at the first input
    that neither of them answers.  Most connections never need a conversation."""

    __slots__ = ("descriptor", "existing_conversation", "replies", "respond_if_known", "server")
    messages: int

    def begin(self, server: EventDriven, conversation: Conversation) -> None:
        """Set the server and the conversation."""
        self.server = server
        self.existing_conversation: Conversation | None = conversation
        self.replies = NOTHING  # until the conversation is open
        self.respond_if_known: Callable[[bytes], object] | None = None
        self.descriptor = self.socket.fileno()

    @property
    def conversation(self) -> Conversation:
        """The conversation, created on first use."""
        if (conversation := self.existing_conversation) is None:
            conversation = self.existing_conversation = self.server.make_bare_conversation(self)
        return conversation

    def refresh_cache_view(self, conversation: Conversation) -> None:
        """Enable the reply cache while the connection is idle; disable it otherwise."""
        if conversation.state == IDLE:
            self.replies, self.respond_if_known = conversation.replies, conversation.respond_if_known
        else:
            self.replies, self.respond_if_known = NOTHING, None

    @property
    def idle(self) -> bool:
        """Whether the connection is between two messages."""
        return self.existing_conversation is None or self.existing_conversation.state == IDLE

    @property
    def pushed(self) -> bool:
        """Whether messages pushed to the peer are unsent."""
        return self.existing_conversation is not None and self.existing_conversation.pushed

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
        made: Conversation | None = getattr(self, "existing_conversation", None)
        return (self.messages or 0) + (0 if made is None else made.messages), self.received, self.sent
