"""Services of the simulation, and the sequential reply to their input.

Messages are lines.  The first byte of a line is a digit n; the reply is the line n times, in brackets.  Every service
replies like this; the variants differ in how they do so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

from daemons import Ending, Peer, Service, Talk, Until

#: Bytes of the longest message.  The constants of the engines are reduced accordingly.
LIMIT = 400

LINES = Until(b"\n", limit=LIMIT)

#: First bytes of messages: for the first the service fails, for the second the talk ends.
BUG, QUIT = b"!", b"?"

GREETING = b"hello\n"
APOLOGY = b"sorry\n"


def reply_to(line: bytes) -> bytes:
    return b"[%s]\n" % (line[:-1] * (line[0] % 10))


class Simulated(Service):
    """A service that depends on the message alone, but does not say so."""

    framing = LINES
    #: What each peer is sent first.
    greeting = b""
    #: Called for each message; a simulation may let it take long.
    compute: Callable[[], None] = staticmethod(lambda: None)
    #: Called in place of a blocking system call.
    block: Callable[[], None] = staticmethod(lambda: None)

    def respond(self, line: bytes) -> bytes | Iterator[bytes]:
        self.compute()
        if line.startswith(BUG):
            raise ArithmeticError("intended")
        return reply_to(line)

    def apology(self, ending: Ending) -> bytes:
        return APOLOGY

    @classmethod
    def numbered(cls, line: bytes, number: int) -> bytes:
        """Return the reply to the message of this number, from 1."""
        return reply_to(line)


class Pure(Simulated):
    pure = True


class Pieces(Simulated):
    """Replies in pieces, some of them empty."""

    def respond(self, line: bytes) -> Iterator[bytes]:
        reply = super().respond(line)
        assert isinstance(reply, bytes)
        return self._cut(reply, len(line) % 7 + 1)

    @staticmethod
    def _cut(reply: bytes, count: int) -> Iterator[bytes]:
        size = len(reply) // count + 1
        for at in range(0, len(reply), size):
            yield reply[at : at + size]
            if count % 2:
                yield b""


class Talking(Simulated):
    """Replies contain the number of the message, so their order matters."""

    greets = False

    def talk(self, peer: Peer) -> Talk:
        number = 0
        reply = None
        while True:
            line = yield reply
            self.respond(line)
            number += 1
            reply = self.numbered(line, number)
            if line.startswith(QUIT):
                return reply

    @classmethod
    def numbered(cls, line: bytes, number: int) -> bytes:
        return b"%d%s" % (number, reply_to(line))


class Greeting(Talking):
    """Greets each peer."""

    greets = True
    greeting = GREETING

    def talk(self, peer: Peer) -> Talk:
        talk = super().talk(peer)
        next(talk)
        reply: object = GREETING
        while True:
            line = yield reply  # type: ignore[misc]
            try:
                reply = talk.send(line)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]


class Slow(Simulated):
    """Some messages take long."""

    def respond(self, line: bytes) -> bytes | Iterator[bytes]:
        if line[0] % 3 == 0:
            self.block()
        return super().respond(line)


KINDS: tuple[type[Simulated], ...] = (Simulated, Pure, Pieces, Talking, Greeting, Slow)


class Script:
    """The input of one client, and the sequential reply to it."""

    def __init__(self, service: type[Simulated], lines: list[bytes]) -> None:
        self.data = b"".join(lines)
        #: Where in the input a message ends, and how long the reply to the input up to there is.
        self._ends = [0]
        replies = [service.greeting]
        self._totals = [len(replies[0])]
        #: Where in the input the service ends the conversation; beyond the input: nowhere.
        self.over_at = len(self.data) + 1
        position = 0
        for number, line in enumerate(lines, 1):
            position += len(line)
            if bad := len(line) > LIMIT or line.startswith(BUG):
                replies.append(APOLOGY)
            else:
                replies.append(service.numbered(line, number))
            if len(line) > LIMIT:
                position += LIMIT - len(line)
            self._ends.append(position)
            self._totals.append(self._totals[-1] + len(replies[-1]))
            if bad or (line.startswith(QUIT) and service.talk is not Service.talk):
                self.over_at = position
                break
        self.reply = b"".join(replies)

    def replied(self, sent: int) -> int:
        """Return the length of the reply to the first `sent` bytes of the input."""
        return self._totals[bisect_right(self._ends, sent) - 1]

    def messages(self, sent: int) -> int:
        """Return the number of messages in the first `sent` bytes of the input."""
        return bisect_right(self._ends, sent) - 1
