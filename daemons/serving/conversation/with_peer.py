"""A conversation of a service that has to know whom it talks with.  No sockets: who that is, it is told."""

from __future__ import annotations

from collections.abc import Callable

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.memory import Memory
from daemons.serving.conversation.service import Peer, Service, Talk


class ConversationWithPeer(Conversation):
    """One visitor's talk with a service.  `who` is asked when it begins: behind a proxy, nobody knows before."""

    __slots__ = ("_who",)

    def __init__(self, service: Service, memory: Memory, who: Callable[[], Peer]) -> None:
        super().__init__(service, memory)
        self._who: Callable[[], Peer] | None = who

    def begin(self) -> Talk:
        who, self._who = self._who, None  # which may have this conversation, and would stay with it
        assert who is not None
        return self._memory.service.talk_with(who())
