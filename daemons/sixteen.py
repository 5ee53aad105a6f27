"""Read a sixteen-byte message and reply with a farewell.

[daemon]
service = sixteen
port = 1061
"""

import logging

from daemons import Fixed, Peer, Service, Talk

log = logging.getLogger(__name__)


class Sixteen(Service):
    framing = Fixed(16)  # any bytes after the message are left unread
    questions = (b"Hi there, server",)

    def talk(self, peer: Peer) -> Talk:
        message = yield None
        log.info("Incoming sixteen-octet message: %r", message)
        return b"Farewell, client"
