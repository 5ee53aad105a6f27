"""Why a conversation ended: one table, one word each.

A line added here is at once a word in the access log, a counter, and a row of the documentation
(``docs/operating.md``).  After Varnish's ``include/tbl/sess_close.h``.
"""

from __future__ import annotations

import logging
from enum import Enum


class Ending(Enum):
    """The word that closes an access line; `level` is the level of that line, `text` explains it."""

    word: str
    level: int
    text: str
    #: Where it stands in the table: 0 is the first.
    place: int

    #: Each is one object; `Enum.__hash__`, in Python, costs seven times as much, and `value` likewise.
    __hash__ = object.__hash__

    def __new__(cls, word: str, level: int, text: str) -> Ending:
        ending = object.__new__(cls)
        ending._value_ = ending.word = word
        ending.level = level
        ending.place = len(cls.__members__)
        ending.text = text
        return ending

    DONE = "done", logging.INFO, "the peer closed between two messages, or had said that there would be no other"
    FINISHED = "finished", logging.INFO, "the service or handler had said its last word"
    CUT = "cut", logging.INFO, "the peer left in the middle of a message, which was not executed"
    RESET = "reset", logging.INFO, "the peer reset the connection"
    HANDSHAKE = "handshake", logging.WARNING, "what comes before the first message failed, or took handshake_timeout"
    IDLE = "idle", logging.INFO, "no message began within idle_timeout"
    SLOW = "slow", logging.WARNING, "a message was not complete within message_timeout"
    STUCK = "stuck", logging.WARNING, "the peer did not take a reply within write_timeout"
    OVERLONG = "overlong", logging.WARNING, "a raw handler took longer than conversation_timeout"
    OVERSIZE = "oversize", logging.WARNING, "a message was longer than the framing allows"
    MALFORMED = "malformed", logging.WARNING, "the bytes broke the rules of the framing"
    REFUSED = "refused", logging.WARNING, "a guard did not let the peer in, or on; a reason from `Refusal` follows"
    AMPLIFIED = "amplified", logging.WARNING, "over UDP, an answer longer than amplification allows: it was not sent"
    DRAINED = "drained", logging.INFO, "idle when the daemon was stopping, so closed"
    STOPPED = "stopped", logging.WARNING, "still busy at drain_timeout when the daemon was stopping, so cut off"
    FAILED = (
        "failed",
        logging.ERROR,
        "a bug in the service or handler, or a reply without its end; a line before this one has the reason",
    )


#: Endings of which the framing may say more: the `reason` that follows them.
BY_FRAMING = frozenset((Ending.CUT, Ending.OVERSIZE, Ending.MALFORMED))


class Refusal(Enum):
    """Why a peer is refused: the word that follows ``refused`` as ``reason=``; `text` explains it."""

    text: str

    def __new__(cls, word: str, text: str) -> Refusal:
        refusal = object.__new__(cls)
        refusal._value_ = word
        refusal.text = text
        return refusal

    DENIED = "denied", "[access] deny names its network, and allow no smaller one"
    UNLISTED = "unlisted", "[access] allow names networks, none of which it is in"
    CROWDED = "crowded", "it already had max_per_peer connections"
    LOOP = "loop", "a datagram from a port whose service would answer the answer, for ever"
    HELD = "held", "its message or reply had no room in [limits] held"
