"""A guessing game for two: one peer chooses a number, the next one has to guess it.

[daemon]
service = guess
port = 1074
"""

from contextlib import suppress
from dataclasses import dataclass

from daemons import COUNT, DURATION, Lines, Peer, PeerGone, Service, Talk, Wait, setting

HIGHEST = 100


class Guess(Service):
    framing = Lines(limit=100)
    shares = True

    @dataclass(frozen=True)
    class Options:
        """The section [guess]."""

        guesses: int = setting(COUNT, 7, "maximum number of guesses")
        patience: float = setting(DURATION, 60.0, "longest wait for the other player")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or self.Options())
        #: Chosen numbers, by the peer that has chosen.
        self.chosen: dict[Peer, int] = {}

    def talk(self, peer: Peer) -> Talk:
        try:
            other, number = self.chosen.popitem()
        except KeyError:
            return (yield from self.choose(peer))
        return (yield from self.guess(other, number))

    def choose(self, peer: Peer) -> Talk:
        """Choose a number for the next peer to guess."""
        number = None
        while number is None:
            number = number_of((yield b"Choose a number from 1 to %d." % HIGHEST))
        self.chosen[peer] = number
        try:
            result = yield Wait(b"Your number is %d. Waiting for another player." % number, self.options.patience)
            if result is None and peer in self.chosen:
                return b"Nobody came."
            result = result or (yield Wait(timeout=self.options.patience))
            return result or b"The other player has not finished."
        finally:
            self.chosen.pop(peer, None)

    def guess(self, other: Peer, number: int) -> Talk:
        """Guess the number of another peer, which waits for the result."""
        result = b"The other player has left."
        reply = b"Guess a number from 1 to %d." % HIGHEST
        try:
            for count in range(1, self.options.guesses + 1):
                guess = number_of((yield reply))
                if guess == number:
                    result = b"Your number was guessed with %d guesses." % count
                    return b"Right."
                reply = b"A number is expected." if guess is None else b"Higher." if guess < number else b"Lower."
            result = b"Your number was not guessed."
            return b"It was %d." % number
        finally:
            with suppress(PeerGone):
                other.notify(result)


def number_of(line: bytes) -> int | None:
    """Return the number in a line; None if there is none from 1 to `HIGHEST`."""
    return int(line) if line.isdigit() and len(line) < 4 and 1 <= int(line) <= HIGHEST else None
