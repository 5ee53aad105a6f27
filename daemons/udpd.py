"""Reply with the length of each datagram.

[daemon]
service = udpd
listen = udp://127.0.0.1:1060
"""

import logging
import random
import re
import secrets
from dataclasses import dataclass

from daemons import FRACTION, Service, Whole, setting

log = logging.getLogger(__name__)

#: Optional first line of a datagram, copied to the reply to match it: 64 bits, in hexadecimal digits.
ID = re.compile(rb"id=[0-9A-Fa-f]{16}\n")

ANSWER = b"Your data was %d bytes long"
ANY_ANSWER = re.compile(rb"Your data was \d+ bytes long")


def split(message: bytes) -> tuple[bytes, bytes]:
    """Return the line with the id, empty if there is none, and the data."""
    found = ID.match(message)
    end = found.end() if found else 0
    return message[:end], message[end:]


class Udpd(Service):
    #: Maximum payload of a UDP datagram over IPv6 (RFC 768); over IPv4 it is 20 bytes less.
    framing = Whole(limit=65_527)
    questions = (b"This is my message",)

    @dataclass(frozen=True)
    class Options:
        """The section [udpd]."""

        drop_rate: float = setting(FRACTION, 0.0, "Fraction of datagrams left unanswered, to simulate packet loss.")

    def respond(self, message: bytes) -> bytes:
        line, data = split(message)
        if random.random() < self.options.drop_rate:
            log.info("Pretending to drop packet: %d bytes", len(message))
            return b""
        # A reply is never answered: with a forged source address, two daemons would answer each other forever.
        return b"" if ANY_ANSWER.fullmatch(data) else line + ANSWER % len(data)

    @classmethod
    def question(cls, word: bytes) -> bytes:
        return b"id=%016x\n%b" % (secrets.randbits(64), word)

    @classmethod
    def shown(cls, answer: bytes) -> bytes:
        return split(answer)[1]

    @classmethod
    def matches(cls, question: bytes, answer: bytes) -> bool:
        return split(question)[0] == split(answer)[0]
