"""A conversation of a service that has to know whom it talks with.  No sockets: who that is, it is told."""

from __future__ import annotations

from collections.abc import Callable

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service import Peer, Service, Talk
from daemons.serving.conversation.service_binding import ServiceBinding


class ConversationWithPeer(Conversation):
    """One visitor's talk with a service.  `who` is asked when it begins: behind a proxy, nobody knows before."""

    __slots__ = ("_who",)

    def __init__(self, service: Service, binding: ServiceBinding, who: Callable[[], Peer]) -> None:
        super().__init__(service, binding)
        self._who: Callable[[], Peer] | None = who

    def begin(self) -> Talk:
        who, self._who = self._who, None  # which may have this conversation, and would stay with it
        assert who is not None
        return self._binding.service.talk_with(who())
