"""The simulated sockets and epoll behave as the real ones: the same random script runs on both."""

from __future__ import annotations

import errno
import fcntl
import random
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.simulation.engines.epoll import Epoll
from tests.simulation.engines.kernel import Kernel
from tests.simulation.engines.stream import Endpoint, connect

#: Seconds for the real kernel to deliver a segment over the loopback interface.
DELIVERY = 20.0

#: Interests of the script; the engines use the first three.
INTERESTS = (
    select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET,
    select.EPOLLIN,
    select.EPOLLOUT,
    0,
    select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET,
    select.EPOLLOUT | select.EPOLLET,
    select.EPOLLRDHUP | select.EPOLLPRI,
)

#: States of enum tcp_state, netinet/tcp.h.
FIN_WAIT2, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING = 5, 7, 8, 9, 11


def _result(call: Callable[[], object]) -> object:
    """Return the result of a system call, or the name of its error."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Both:
    """Pairs of connected sockets, each twice: real and simulated."""

    def __init__(self, pairs: int, rng: random.Random) -> None:
        self._rng = rng
        self._kernel = Kernel(rng)
        self._fake_poll = Epoll(self._kernel)
        self._real_poll = select.epoll()
        self.open: list[int] = []
        #: The operations until now, for the message of a failure.
        self._script: list[str] = []
        self._real: list[socket.socket] = []
        self._fake: list[Endpoint] = []
        self._urgent = [False] * pairs * 2
        self._descriptors: list[tuple[int, int]] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(pairs):
                client = socket.create_connection(listener.getsockname())
                server, _ = listener.accept()
                for real, fake in zip((client, server), connect(self._kernel, 60_000, 60_000), strict=True):
                    real.setblocking(False)
                    real.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    fake.descriptor = self._kernel.open(fake)
                    self._add(real, fake)

    def _add(self, real: socket.socket, fake: Endpoint) -> None:
        self.open.append(len(self._real))
        self._real.append(real)
        self._fake.append(fake)
        self._descriptors.append((real.fileno(), fake.fileno()))

    def close(self) -> None:
        for real in self._real:
            real.close()
        self._real_poll.close()

    def _same(self, what: str, real: Callable[[], object], fake: Callable[[], object]) -> None:
        expected, result = _result(real), _result(fake)
        self._script.append(f"{what}: {len(result) if isinstance(result, bytes) else result}")
        assert result == expected, "; ".join(self._script)
        self._settle()

    def _settle(self) -> None:
        """Wait until the real kernel has delivered as much as the simulated one."""
        deadline = time.monotonic() + DELIVERY
        for number in self.open:
            while not self._settled(number):
                assert time.monotonic() < deadline, f"{number}: {self._script}"

    def _settled(self, number: int) -> bool:
        real, fake = self._real[number], self._fake[number]
        state = real.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if fake.reset or (fake.fin and fake.delivered_fin):
            return state == CLOSE
        if fake.fin:
            return state in (CLOSE_WAIT, LAST_ACK, CLOSING)
        if fake.delivered_fin and state != FIN_WAIT2:
            return False
        if fake.urgent is not None:
            poll = select.poll()
            poll.register(real, select.POLLPRI)
            return bool(poll.poll(0))
        (unread,) = struct.unpack("i", fcntl.ioctl(real, termios.FIONREAD, bytes(4)))
        return bool(unread == len(fake.received))

    def step(self) -> None:
        """Do one random operation on a random socket."""
        rng = self._rng
        number = rng.choice(self.open)
        real, fake = self._real[number], self._fake[number]
        actions: list[Callable[[], None]] = [self._send, self._recv, self._poll, self._watch]
        weights = [6, 6, 9, 4]
        for action, weight in ((self._shutdown, 1), (self._close, 1), (self._fill, 2), (self._send_urgent, 1)):
            actions.append(action)
            weights.append(weight)
        self._number, self._one, self._other = number, real, fake
        rng.choices(actions, weights)[0]()

    def _send(self) -> None:
        data = self._rng.randbytes(self._rng.choice((1, 3, 50, 1000)))
        self._same(f"send {len(data)} on {self._number}", lambda: self._one.send(data), lambda: self._other.send(data))

    def _recv(self) -> None:
        size = self._rng.choice((1, 2, 40, 5000))
        self._same(f"recv {size} on {self._number}", lambda: self._one.recv(size), lambda: self._other.recv(size))

    def _watch(self) -> None:
        (real, fake), events = self._descriptors[self._number], self._rng.choice(INTERESTS)
        name = self._rng.choice(("register", "modify", "modify", "unregister"))
        arguments = () if name == "unregister" else (events,)
        self._same(
            f"{name} {self._number} {events:#x}",
            lambda: getattr(self._real_poll, name)(real, *arguments),
            lambda: getattr(self._fake_poll, name)(fake, *arguments),
        )

    def _poll(self) -> None:
        numbers = {real: number for number, (real, _) in enumerate(self._descriptors) if number in self.open}
        fakes = {fake: number for number, (_, fake) in enumerate(self._descriptors) if number in self.open}
        expected = sorted((numbers[descriptor], mask) for descriptor, mask in self._real_poll.poll(0))
        events = sorted((fakes[descriptor], mask) for descriptor, mask in self._fake_poll.poll(0))
        self._script.append(f"poll {expected}")
        assert events == expected, "; ".join(self._script)

    def _shutdown(self) -> None:
        how = self._rng.choice((socket.SHUT_WR, socket.SHUT_WR, socket.SHUT_RD, socket.SHUT_RDWR))
        self._same(
            f"shutdown {how} of {self._number}", lambda: self._one.shutdown(how), lambda: self._other.shutdown(how)
        )

    def _close(self) -> None:
        if len(self.open) < 3:
            return
        self.open.remove(self._number)
        if self._rng.random() < 0.3:
            self._one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._same(f"reset of {self._number}", self._one.close, self._other.abort)
        else:
            self._same(f"close of {self._number}", self._one.close, self._other.close)

    def _send_urgent(self) -> None:
        """Send one urgent byte, at most once on each connection."""
        peer = self._number ^ 1
        if self._urgent[self._number] or peer not in self.open:
            return
        self._urgent[self._number] = True
        if self._other.send_urgent():
            self._script.append(f"urgent byte on {self._number}")
            self._one.send(b"!", socket.MSG_OOB)
            self._settle()

    def _fill(self) -> None:
        """Fill the send buffer, compare the events, and empty it.  The sizes of the buffers may differ."""
        peer, one, other = self._number ^ 1, self._one, self._other
        if peer not in self.open or other.peer.urgent is not None or other.peer.shut_read:
            return
        if other.shut_write or other.reset:
            return
        self._script.append(f"fill {self._number}")
        real_sent = len(self._fake[peer].received) + _send_all(one.send)
        fake_sent = len(self._fake[peer].received) + _send_all(other.send)
        self._poll()
        deadline = time.monotonic() + DELIVERY
        while real_sent:
            try:
                real_sent -= len(self._real[peer].recv(1_000_000))
            except BlockingIOError:
                assert time.monotonic() < deadline
        while fake_sent:
            fake_sent -= len(self._fake[peer].recv(1_000_000))
        # The last acknowledgement may be on its way.
        while not (writable := select.select((), (one,), (), DELIVERY)[1]) and time.monotonic() < deadline:
            pass
        assert writable
        self._settle()
        self._poll()


def _send_all(send: Callable[[bytes], int]) -> int:
    """Send until the buffer is full, and return the number of bytes."""
    sent = 0
    try:
        while True:
            sent += send(bytes(100_000))
    except BlockingIOError:
        return sent


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("seed", range(30))
def test_script_gives_the_same_events_bytes_and_errors(seed: int, cleanup: ExitStack) -> None:
    both = Both(3, random.Random(seed))
    cleanup.callback(both.close)
    for _ in range(100):
        both.step()
