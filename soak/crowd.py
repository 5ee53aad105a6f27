"""A crowd of hostile clients, in a process of its own: ``python -m soak.crowd KIND PORT COUNT RATE [REQUEST]``.

They keep COUNT connections open, and replace those that the daemon closes, at most RATE a second.  The process prints
``full`` when COUNT connections have been established, and ends when its standard input ends.
"""

from __future__ import annotations

import errno
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from daemons.launcelot import ANSWERS
from soak.place import TOP

QUESTION = next(iter(ANSWERS))

#: The bytes that a connection sends, whether it repeats them, and whether it reads.  The last three are for the
#: service of `soak.held`, which reads a length before each message.
KINDS = {
    "mute": (b"", False, False),
    #: The argument REQUEST, in hexadecimal digits.
    "request": (b"", False, False),
    "half": (QUESTION[:-1], False, False),
    "never-reader": (QUESTION * 400, True, False),
    "pipeline": (QUESTION * 400, True, True),
    "large-half": (struct.pack("!I", 1024**2) + bytes(120 * 1024), False, False),
    "medium-half": (struct.pack("!I", 1024**2) + bytes(30 * 1024), False, False),
    "unread-echo": ((struct.pack("!I", 16 * 1024) + bytes(16 * 1024)) * 4, True, False),
}

#: Source addresses: each has some 28,000 ports.
HOSTS = tuple(f"127.0.0.{last}" for last in range(2, 8))

#: Connections opened in one turn; the rest of the rate follows in the next ones.
BATCH = 64

#: Connections that are being established, at most: fewer than the kernel's queue of a listener has room for.  Else it
#: drops segments, and newcomers, too, would have to send theirs again after seconds.
CONNECTING = 256

#: Seconds between two turns, at least.
PAUSE = 0.005


class Clients:
    """The connections of a crowd, in one epoll set."""

    def __init__(self, kind: str, port: int, count: int, rate: float, request: bytes = b"") -> None:
        self.opening, self.repeats, self.reads = KINDS[kind]
        self.opening = self.opening or request
        self.port, self.count, self.rate = port, count, rate
        self.epoll = select.epoll()
        self.open: dict[int, socket.socket] = {}
        #: Bytes of `opening` that were sent, by descriptor.
        self.sent: dict[int, int] = {}
        #: Descriptors of connections that are being established.
        self.connecting: set[int] = set()
        self.established = 0
        self.opened = 0
        self.due = 0.0
        self.last = time.monotonic()

    def turn(self) -> None:
        """Replace closed connections, and read and write."""
        now = time.monotonic()
        # The first connections come at once, replacements at the rate.
        self.due = BATCH if self.established < self.count else min(BATCH, self.due + (now - self.last) * self.rate)
        self.last = now
        while self.due >= 1 and len(self.open) < self.count and len(self.connecting) < CONNECTING:
            self.due -= 1
            if not self._connect():
                break
        for descriptor, events in self.epoll.poll(PAUSE):
            self._handle(descriptor, events)

    def _connect(self) -> bool:
        peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host = HOSTS[self.opened % len(HOSTS)]
        try:
            with suppress(OSError):
                peer.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            peer.bind((host, 0))
            if peer.connect_ex(("127.0.0.1", self.port)) not in (0, errno.EINPROGRESS):
                peer.close()
                return False
        except OSError:
            peer.close()
            return False
        self.opened += 1
        self.open[peer.fileno()] = peer
        self.sent[peer.fileno()] = 0
        self.connecting.add(peer.fileno())
        self.epoll.register(peer.fileno(), select.EPOLLOUT | select.EPOLLRDHUP)
        return True

    def _handle(self, descriptor: int, events: int) -> None:
        peer = self.open[descriptor]
        try:
            if events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
                raise ConnectionResetError
            if events & select.EPOLLIN and not peer.recv(256 * 1024):
                raise ConnectionResetError
            if events & select.EPOLLOUT:
                if descriptor in self.connecting:
                    self.connecting.discard(descriptor)
                    self.established += 1
                if self.opening:
                    self.sent[descriptor] += peer.send(self.opening[self.sent[descriptor] :])
                whole = self.sent[descriptor] == len(self.opening)
                if whole and self.repeats:
                    self.sent[descriptor] = 0
                if whole and not self.repeats:
                    self.epoll.modify(descriptor, select.EPOLLRDHUP)
                elif self.reads:
                    self.epoll.modify(descriptor, select.EPOLLRDHUP | select.EPOLLIN | select.EPOLLOUT)
        except BlockingIOError:
            pass
        except OSError:
            self.epoll.unregister(descriptor)
            del self.open[descriptor], self.sent[descriptor]
            self.connecting.discard(descriptor)
            peer.close()


class Crowd:
    """The process of a crowd, as a context manager."""

    def __init__(self, kind: str, port: int, count: int, rate: float, request: bytes = b"") -> None:
        words = [sys.executable, "-m", "soak.crowd", kind, str(port), str(count), str(rate), request.hex()]
        self._process = subprocess.Popen(words, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def wait(self, seconds: float) -> bool:
        """Return whether all connections were opened within `seconds`."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0]) and bool(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(arguments: list[str]) -> int:
    kind, port, count, rate, request = arguments
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clients = Clients(kind, int(port), int(count), float(rate), bytes.fromhex(request))
    full = False
    while not select.select([sys.stdin], [], [], 0)[0]:
        clients.turn()
        if not full and clients.established >= clients.count:
            full = True
            with suppress(BrokenPipeError):
                print("full", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
