"""Hears what is said to everybody on a network, and answers.

[daemon]
service = bcast
listen = udp://127.255.255.255:1062
"""

import logging

from daemons import Service, Whole

log = logging.getLogger(__name__)

#: No longer than what it answers, so that it goes to other machines too, whatever `amplification` is.
ANSWER = b"I hear you."


class Bcast(Service):
    #: The longest datagram over IPv4, RFC 768; in IPv6 there is no broadcast.
    framing = Whole(limit=65_507)
    questions = (b"Broadcast datagram!",)

    def respond(self, message: bytes) -> bytes:
        # Who says so stands in the access line, which comes next.
        log.info("Broadcast: %r", message)
        # An answer is not answered: two of us, set on each other with a forged sender, would never end.
        return b"" if message == ANSWER else ANSWER
