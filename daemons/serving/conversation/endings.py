"""Reasons for the end of a conversation.

Each member is a word in the access log, a counter, and a row in ``docs/operating.md``.  Modeled on Varnish's
``include/tbl/sess_close.h``.
"""

from __future__ import annotations

import logging
from enum import Enum


class Ending(Enum):
    """How a conversation ended.

    `word` follows the peer in the access line, `level` is the level of that line, and `text` explains the word."""

    word: str
    level: int
    text: str
    #: Index among the members, from 0.
    place: int

    #: Members are singletons, so hashing by identity is correct.  `Enum.__hash__` is written in Python and takes seven
    #: times as long; so does `value`, hence `word`.
    __hash__ = object.__hash__

    def __new__(cls, word: str, level: int, text: str) -> Ending:
        ending = object.__new__(cls)
        ending._value_ = ending.word = word
        ending.level = level
        ending.place = len(cls.__members__)
        ending.text = text
        return ending

    DONE = "done", logging.INFO, "the peer closed between two messages, or announced its last message"
    FINISHED = "finished", logging.INFO, "the service or handler closed the connection after its last reply"
    CUT = "cut", logging.INFO, "the peer closed in the middle of a message, which was not processed"
    RESET = "reset", logging.INFO, "the peer reset the connection"
    HANDSHAKE = (
        "handshake",
        logging.WARNING,
        "the TLS handshake or PROXY header failed, or took longer than handshake_timeout",
    )
    IDLE = "idle", logging.INFO, "no message began within idle_timeout"
    SLOW = "slow", logging.WARNING, "a message was not complete within message_timeout"
    STUCK = "stuck", logging.WARNING, "the peer did not take a reply within write_timeout"
    OVERLONG = "overlong", logging.WARNING, "a raw handler took longer than conversation_timeout"
    OVERSIZE = "oversize", logging.WARNING, "a message was longer than the framing allows"
    MALFORMED = "malformed", logging.WARNING, "the bytes violated the rules of the framing"
    REFUSED = "refused", logging.WARNING, "refused by a guard; a reason from `Refusal` follows"
    AMPLIFIED = "amplified", logging.WARNING, "over UDP, a reply longer than amplification allows was dropped"
    DRAINED = "drained", logging.INFO, "idle when the daemon stopped, so closed"
    STOPPED = "stopped", logging.WARNING, "still busy drain_timeout after the stop signal, so closed"
    FAILED = (
        "failed",
        logging.ERROR,
        "an exception in the service or handler, or an incomplete reply; an earlier line has the reason",
    )


#: Endings followed by a `reason` from the framing.
BY_FRAMING = frozenset((Ending.CUT, Ending.OVERSIZE, Ending.MALFORMED))

#: Endings that send a last reply, an apology or an alert while the peer may still be sending.  The connection lingers,
#: so that these bytes arrive.
LINGERING = frozenset((Ending.FINISHED, Ending.OVERSIZE, Ending.MALFORMED, Ending.HANDSHAKE, Ending.FAILED))


class Refusal(Enum):
    """Reason for the ending ``refused``, logged as ``reason=``; `text` is an explanation."""

    text: str

    def __new__(cls, word: str, text: str) -> Refusal:
        refusal = object.__new__(cls)
        refusal._value_ = word
        refusal.text = text
        return refusal

    DENIED = "denied", "the peer's address is in a network of [access] deny, and in no smaller network of allow"
    UNLISTED = "unlisted", "the peer's address is in none of the networks in [access] allow"
    CROWDED = "crowded", "the peer's host already had max_per_peer connections"
    LOOP = "loop", "a datagram from a port whose service would reply to the reply, endlessly"
    HELD = "held", "the message or reply had no room in the memory budget, [limits] held"
    FULL = "full", "at max_connections: it was waiting for its peer, and gave way to a new connection"
