"""Conversation of a service that needs the peer's address.  No sockets: the caller passes the address."""

from __future__ import annotations

from collections.abc import Callable

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.service import Peer, Service, Talk
from daemons.serving.conversation.service_binding import ServiceBinding


class ConversationWithPeer(Conversation):
    """Conversation that calls `peer` when the talk begins: behind a proxy, the address is not known earlier."""

    __slots__ = ("_peer",)

    def __init__(self, service: Service, binding: ServiceBinding, peer: Callable[[], Peer]) -> None:
        super().__init__(service, binding)
        self._peer: Callable[[], Peer] | None = peer

    def begin(self) -> Talk:
        peer, self._peer = self._peer, None  # `peer` may refer to this conversation: break the cycle
        assert peer is not None
        return self._binding.service.talk_with(peer())
