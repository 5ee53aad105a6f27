"""Simulated clients: they send pieces, pipeline, stop reading, half-close and reset, as the seed decides."""

from __future__ import annotations

import random
import socket

from daemons.serving.conversation.endings import Ending
from tests.simulation.engines.answers import BUG, LIMIT, QUIT, Script, Simulated
from tests.simulation.engines.stream import Endpoint


def line_of(rng: random.Random, long: float) -> bytes:
    """Return a random message, which is a long one with probability `long`."""
    size = rng.randrange(LIMIT - 2 if rng.random() < long else 15)
    return b"%d" % rng.randrange(10) + rng.randbytes(size).hex().encode()[:size] + b"\n"


def usual_lines(rng: random.Random, long: float) -> list[bytes]:
    """Return messages that clients send again and again.

    Some are the ends of others: a cache must not answer a part of a message as if it were a message."""
    line = b"%d\n" % rng.randrange(10, 10**6)
    return [line[at:] for at in range(len(line) - 1)] + [line_of(rng, long) for _ in range(rng.randrange(5))]


def script(rng: random.Random, service: type[Simulated], usual: list[bytes], long: float) -> Script:
    """Return a random script; most lines are among the `usual` ones."""
    lines = [rng.choice(usual) if rng.random() < 0.7 else line_of(rng, long) for _ in range(rng.randrange(1, 25))]
    if (draw := rng.random()) < 0.3:
        last = (BUG + b"\n", QUIT + b"\n", QUIT + b"7\n", b"x" * (LIMIT + 50) + b"\n")[int(draw * 10)]
        lines.insert(rng.randrange(len(lines) + 1), last)
    return Script(service, lines)


class Client:
    """One client with its end of a connection."""

    def __init__(self, rng: random.Random, endpoint: Endpoint, script: Script) -> None:
        self._rng = rng
        self.endpoint = endpoint
        self.script = script
        self.sent = 0
        self.got = bytearray()
        #: Whether it reads.
        self.reading = True
        self.half_closed = False
        #: Whether it closed the connection before the end of the reply.
        self.left = False
        #: Whether it has read the end of the input, or an error in place of it.
        self.at_end = False
        self.was_reset = False
        self.sent_urgent = False
        #: Does nothing any more, until the end of the run.
        self._dormant = False
        #: The endings that the server has logged; there must be one.
        self.endings: list[Ending | None] = []
        #: Violations found during the run.
        self.faults: list[str] = []

    @property
    def done(self) -> bool:
        """Whether the client has closed its end."""
        return self.endpoint.closed

    def act(self) -> bool:
        """Do one random operation.  Return False if there is none to do but to wait."""
        if self._dormant:
            return False
        draw = self._rng.random()
        if draw < 0.03:
            self._misbehave()
            return True
        if draw < 0.05:
            self.reading = not self.reading
            return True
        sending = self.sent < len(self.script.data) and not self.half_closed
        if sending and (draw < 0.5 or not self._readable):
            return self._send(self._chunk())
        if self.reading and self._readable:
            self._read(self._rng.choice((1, 10, 100, 10_000)))
            return True
        if not sending and not self.half_closed and draw < 0.7:
            self._half_close()
            return True
        return False

    def finish(self) -> bool:
        """Do the next step to a regular end.  Return False if the client must wait."""
        self.reading = True
        if self._readable:
            self._read(10_000)
            return True
        if not self.half_closed:
            if self.sent < len(self.script.data):
                return self._send(len(self.script.data) - self.sent)
            self._half_close()
            return True
        return False

    @property
    def _readable(self) -> bool:
        endpoint = self.endpoint
        return bool(endpoint.received or endpoint.fin or endpoint.reset)

    def _chunk(self) -> int:
        """Return the number of bytes to send: a part of a message, a message, or several."""
        data, rng = self.script.data, self._rng
        draw = rng.random()
        if draw < 0.3:
            return rng.randrange(1, 5)
        if draw < 0.8:
            return data.index(b"\n", self.sent) + 1 - self.sent
        return rng.randrange(1, 500)

    def _send(self, size: int) -> bool:
        try:
            self.sent += self.endpoint.send(self.script.data[self.sent : self.sent + size])
        except BlockingIOError:
            return False
        except OSError:
            self.half_closed = self.was_reset = True
        return True

    def _read(self, size: int) -> None:
        try:
            data = self.endpoint.recv(size)
        except OSError:
            data = b""
            self.was_reset = True
        self.got += data
        if not data:
            self.at_end = True
            self.endpoint.close()

    def _half_close(self) -> None:
        self.half_closed = True
        try:
            self.endpoint.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _misbehave(self) -> None:
        draw = self._rng.random()
        if draw < 0.1:
            self._dormant = True
        elif draw < 0.4:
            if not self.sent_urgent:
                self.sent_urgent = self.endpoint.send_urgent()
        elif draw < 0.6:
            self._half_close()
        elif draw < 0.8:
            self.left = True
            self.endpoint.abort()
        else:
            self.left = True
            self.endpoint.close()
