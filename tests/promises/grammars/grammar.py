"""A grammar: honest and adversarial input for one kind of service, without sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.states import OVER, PENDING

#: Bytes that an engine reads at once.
PIECE = 64 * 1024

#: The argument of an honest call.
RECORDS = [{"number": number, "symbol": "Ne", "mass": 20.1797, "noble": True} for number in range(10)]

Feed = Callable[[bytes], object]


#: Unlike inputs, of one peer each, for which promise R1 allows 4 MiB.
COUNT = 5000


@dataclass(frozen=True)
class Grammar:
    """One row of the table of grammars."""

    name: str
    #: Start a service, with a folder for its files.  Returns the function that serves one peer: it takes all that the
    #: peer sends.
    serve: Callable[[Path], Feed]
    #: The input of the nth peer.  Thousands of them differ in everything that a library might remember.
    unlike: Callable[[int], bytes]
    #: An honest input of about so many bytes; another one each time, where inputs are remembered.
    honest: Callable[[int], bytes]
    #: Inputs of at most so many bytes, by name, each shaped so as to cost as much as possible.
    adversarial: Callable[[int], Mapping[str, bytes]]
    #: Bytes of the largest input that is read before a decision.
    size: int
    #: Number of unlike inputs in the memory test; its limit is proportional.
    count: int = COUNT // 2


def converse(conversation: Conversation, data: bytes, piece: int = PIECE) -> int:
    """Hold one conversation as an engine does: `data` in pieces, then end-of-file.  Returns the output.  Raises any
    exception of the service."""
    sent = len(conversation.open())
    for part in (*(data[start : start + piece] for start in range(0, len(data), piece)), b""):
        if conversation.state == OVER:
            break
        sent += len(conversation.receive(part))
        while conversation.state == PENDING:
            sent += len(conversation.proceed())
    failure = conversation.failure
    conversation.close()
    if failure is not None:
        raise failure
    return sent


def word(number: int, size: int) -> str:
    """Return the nth of many different words of letters and digits."""
    part = f"u{number:07x}"
    return (part * (size // len(part) + 1))[:size]


def filled(before: bytes, unit: bytes, behind: bytes, size: int, between: bytes = b"", most: int = 10**9) -> bytes:
    """Return `unit` repeated between `before` and `behind`, as often as `size` bytes allow, up to a maximum count."""
    count = min((size - len(before) - len(behind) + len(between)) // (len(unit) + len(between)), most)
    return before + between.join([unit] * count) + behind
