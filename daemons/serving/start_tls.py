"""StartTLSServer: a stream server on which conversations may begin TLS after a part in clear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.stepping import SteppingConversation
from daemons.serving.stream import StreamServer

if TYPE_CHECKING:
    from daemons.serving.conversation.tls import TLS


class StartTLSServer(StreamServer):
    """Stream server for a service that `starts_tls`."""

    #: TLS configuration of `StartTLS`; None: the service cannot begin TLS.  Unused if connections have TLS from the
    #: first byte.
    start_tls: TLS | None = None

    def make_bare_conversation(self, connection: Connection) -> Conversation:
        conversation = super().make_bare_conversation(connection)
        if self.start_tls is None or self.tls is not None or not isinstance(conversation, SteppingConversation):
            return conversation
        from daemons.serving.conversation.start_tls import UpgradableConversation  # importing ssl is slow

        return UpgradableConversation(conversation, self.start_tls, connection.explain)
