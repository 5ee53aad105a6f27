"""A service of the simulation: its talk pushes, waits, and replies later.

The reply to a line depends on the line and its number alone, so the sequential reply is known.  A push is a line of its
own that begins with ``+``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from daemons import Peer, PeerGone, Service, Talk, Wait
from tests.simulation.engines.answers import BUG, GREETING, QUIT, Simulated, reply_to

PLAIN, OWN_PUSH, PUSH, WAIT, WAIT_IN_PIECES, LATER, AT_ONCE, PIECES = range(8)

#: Timeouts of waits, in seconds.
TIMEOUTS = (0.0, 0.01, 0.3, 2.0, None)


def deed_of(line: bytes) -> int:
    """Return the action of the talk for a line."""
    if line.startswith(BUG) or line == QUIT + b"\n":
        return PLAIN
    return LATER if line.startswith(QUIT) else zlib.crc32(line) % 8


class Pushing(Simulated):
    """Pushes, waits, and replies later, as each line asks for."""

    greets = False
    #: Set by the simulation.
    clock: Callable[[], float]
    #: Pushes to some other peer.
    push: Callable[[], None]
    #: Pushes to this peer.
    push_to: Callable[[Peer], None]
    #: Called with the peer when its talk begins.
    join: Callable[[Peer], None]
    #: Called with a future that is to be finished, and how.
    later: Callable[[Future[Any], Callable[[], Any]], None]
    fail: Callable[[str], None]

    def talk(self, peer: Peer) -> Talk:
        self.join(peer)
        number = value = 0
        reply: Any = self.greeting or None
        try:
            while True:
                line = yield reply
                number += 1
                self.compute()
                deed = deed_of(line)
                reply = self.numbered(line, number)
                if deed in (WAIT, WAIT_IN_PIECES):
                    first, reply = b"%d...\n" % number, reply[len(b"%d...\n" % number) :]
                    timeout = TIMEOUTS[len(line) % len(TIMEOUTS)]
                    began = self.clock()
                    got: Any = yield Wait(first if deed == WAIT else _pieces(first), timeout)
                    value = self._check(got, value, math.inf if timeout is None else began + timeout)
                elif deed == OWN_PUSH:
                    self.push_to(peer)
                elif deed == PUSH:
                    self.push()
                elif deed == PIECES:
                    reply = _pieces(reply)
                elif deed in (LATER, AT_ONCE):
                    reply = self._reply_later(line, reply, deed == AT_ONCE)
                if line.startswith(BUG):
                    if number % 3 == 0:
                        raise ArithmeticError("intended")
                    reply = self._fail_later(number)
                if line.startswith(QUIT):
                    return reply  # type: ignore[no-any-return]
        finally:
            self.push()

    def _check(self, got: Any, value: int, until: float) -> int:
        """Check the result of a wait, and return the last value."""
        if got is None:
            if self.clock() < until:
                self.fail(f"a wait ended {until - self.clock()} s before its timeout")
            return value
        if got != value + 1:
            self.fail(f"a wait ended with value {got} after {value}")
        return got  # type: ignore[no-any-return]

    def _reply_later(self, line: bytes, reply: bytes, at_once: bool) -> Future[Any]:
        future: Future[Any] = Future()

        def finish() -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(_pieces(reply) if len(line) % 3 == 0 else reply)

        if at_once:
            finish()
        else:
            self.later(future, finish)
        return future

    def _fail_later(self, number: int) -> Future[Any]:
        future: Future[Any] = Future()

        def finish() -> None:
            if number % 3 == 1:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                future.set_exception(ArithmeticError("intended"))

        self.later(future, finish)
        return future

    @classmethod
    def numbered(cls, line: bytes, number: int) -> bytes:
        waited = b"%d...\n" % number if deed_of(line) in (WAIT, WAIT_IN_PIECES) else b""
        return waited + b"%d%s" % (number, reply_to(line))


class PushingGreeting(Pushing):
    """Also greets each peer."""

    greets = True
    greeting = GREETING


class Ledger:
    """The pushes to one peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        #: Numbers of the last push of each source.
        self._numbers: dict[object, int] = {}
        #: Bytes of all pushes that were accepted.
        self.accepted = 0
        self._value = 0

    def push(self, source: int, padding: int) -> None:
        """Push a line.  Raise only `PeerGone`."""
        number = self._numbers.get(source, 0) + 1
        self._numbers[source] = number
        line = b"+%d %d %s\n" % (source, number, b"p" * padding)
        self.accepted += len(line)
        try:
            self.peer.send(line)
        except PeerGone:
            self.accepted -= len(line)
            raise

    def notify(self) -> None:
        self._value += 1
        with suppress(PeerGone):
            self.peer.notify(self._value)

    @property
    def taken(self) -> int:
        """Bytes that the conversation has taken."""
        return self.accepted - self.peer.pushed

    def faults_of(self, lines: Iterator[bytes]) -> Iterator[str]:
        """Return the first fault in the pushes that a client has received, or an empty string."""
        numbers: dict[int, int] = {}
        for line in lines:
            fields = line[1:-1].split(b" ")
            if len(fields) != 3 or not (fields[0] + fields[1]).isdigit() or fields[2].strip(b"p"):
                yield f"received the push {line!r}, which was never sent"
                continue
            source, number = int(fields[0]), int(fields[1])
            if number != numbers.get(source, 0) + 1:
                yield f"received push {number} of source {source} after {numbers.get(source, 0)}"
            numbers[source] = number
            if number > self._numbers.get(source, 0):
                yield f"received push {number} of source {source}, which was never sent"


def _pieces(reply: bytes) -> Iterator[bytes]:
    size = len(reply) // 3 + 1
    for at in range(0, len(reply), size):
        yield reply[at : at + size]
        yield b""


assert Pushing.talk is not Service.talk
