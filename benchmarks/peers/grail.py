"""What every peer has in common: the answers, the framing, and how it says that it is ready."""

from __future__ import annotations

import ctypes
import signal
import sys

BACKLOG = 1024  # with the stock value of 5, 64 connects take nine seconds
CHUNK = 16 * 1024  # bytes asked from one recv
LIFETIME = 15 * 60  # seconds after which a forgotten peer ends by itself

ANSWERS = {
    b"What is your name?": b"My name is Sir Launcelot of Camelot.",
    b"What is your quest?": b"To seek the Holy Grail.",
    b"What is your favorite color?": b"Blue.",
}
UNKNOWN = b"I don't know that."


def answer(pending: bytes) -> tuple[bytes, bytes]:
    """The answers to all complete questions in `pending`, joined, and the beginning that is left over.

    A buffer that is exactly one question, which is the rule, costs one look into a dict.
    """
    known = ANSWERS.get(pending)
    if known is not None:
        return known, b""
    *questions, rest = pending.split(b"?")
    return b"".join([ANSWERS.get(question + b"?", UNKNOWN) for question in questions]), rest


PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Has the kernel send SIGTERM when the runner ends, for a program that does not heed the alarm of `announce`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def announce(name: str, port: int) -> None:
    """Says that `name` listens. SIGTERM's default, to end at once, suits a peer."""
    signal.alarm(LIFETIME)
    print(f"{name} ready tcp://127.0.0.1:{port}", file=sys.stderr, flush=True)
