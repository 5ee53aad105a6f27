"""Log each broadcast datagram and answer its sender.

[daemon]
service = bcast
listen = udp://127.255.255.255:1062
"""

import logging

from daemons import Service, Whole

log = logging.getLogger(__name__)

#: Shorter than the datagram it answers, so that the `amplification` limit lets it pass to other machines.
ANSWER = b"I hear you."


class Bcast(Service):
    #: Maximum payload of a UDP datagram over IPv4 (RFC 768); IPv6 has no broadcast.
    framing = Whole(limit=65_507)
    questions = (b"Broadcast datagram!",)

    def respond(self, message: bytes) -> bytes:
        # The access line that follows names the sender.
        log.info("Broadcast: %r", message)
        # A reply is never answered: with a forged source address, two daemons would answer each other forever.
        return b"" if message == ANSWER else ANSWER
