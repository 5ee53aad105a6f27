"""Conversations with the cache, without a socket."""

from __future__ import annotations

from daemons.cached import Cached
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.states import OVER, PENDING


class Seam:
    """One client of a cache."""

    def __init__(self, service: Cached | None = None, **options: int) -> None:
        self.service = service or Cached(Cached.Options(**options))
        self.conversation = Conversation(self.service)

    def ask(self, data: bytes) -> bytes:
        """Return the replies to `data`."""
        replies = [self.conversation.receive(data)]
        while self.conversation.state == PENDING:
            replies.append(self.conversation.proceed())
        assert self.conversation.failure is None
        return b"".join(replies)

    @property
    def over(self) -> bool:
        return self.conversation.state == OVER
