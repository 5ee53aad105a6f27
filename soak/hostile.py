"""Hostile clients: incomplete messages, slow readers, connection resets, malformed input."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable

from soak.openings import AMBIGUOUS, HTTP, OPENINGS
from soak.place import LONGEST_DEADLINE, Place
from soak.talking import SECURE, Visit, Wrong, connected, plain, reset

#: Source addresses, different from those of honest clients, so that limits per peer are counted separately.
HOSTS = tuple(f"127.0.0.{last}" for last in range(2, 8))
CROWD_HOSTS = ("127.0.0.21", "127.0.0.22")

#: Connections of a flood from each of its two hosts: one more than max_per_peer, and together more than
#: max_connections.
CROWD = 31
CROWD_SECONDS = 0.5

#: A deadline is late by a second at most; the rest allows for a busy machine.
HANGING_SECONDS = LONGEST_DEADLINE + 10.0

#: Bytes of a pipeline, more than the kernel's buffers hold; and its maximum number of messages if each has a long reply
#: or a log line: ten thousand of those would mainly test supervisord.
MOST_PIPELINED = 4 * 1024**2
MOST_MESSAGES = 4000
UNLOGGED = (b"What", b"Simple", b"hello", b"capitalize", b"Sparse", b"\x00\x00\x00\x13")


def _closed(peer: socket.socket, seconds: float = HANGING_SECONDS) -> bytes:
    """Return all input until the peer closes.  Raises `Wrong` if it does not close in time."""
    deadline = time.monotonic() + seconds
    received = bytearray()
    with contextlib.suppress(ConnectionError, OSError):
        while (left := deadline - time.monotonic()) > 0:
            peer.settimeout(left)
            try:
                piece = peer.recv(64 * 1024)
            except TimeoutError:
                break
            if not piece:
                return bytes(received)
            received += piece
        raise Wrong(f"a connection that should have been closed was kept for {seconds:g} s")
    return bytes(received)


def _visit(name: str, what: str, do: Callable[[socket.socket, bytes, random.Random], None], buffer: int = 0) -> Visit:
    """Return a visit in which the daemon may close the connection at any time."""

    def hold(place: Place, rng: random.Random) -> None:
        with contextlib.suppress(OSError), connected(place, name, rng.choice(HOSTS), buffer) as peer:
            do(peer, OPENINGS[name], rng)

    return Visit(name, what, hold)


def _half(opening: bytes, rng: random.Random) -> bytes:
    """Return a proper prefix of a message, of at least one byte."""
    return opening[: rng.randint(1, max(1, len(opening) - 1))]


def _half_open(peer: socket.socket, opening: bytes, rng: random.Random) -> None:
    peer.sendall(_half(opening, rng))
    _closed(peer)


def _silent(peer: socket.socket, _: bytes, __: random.Random) -> None:
    _closed(peer)


def _slow_sender(peer: socket.socket, opening: bytes, rng: random.Random) -> None:
    """Send one byte at a time, without the last one."""
    peer.settimeout(1.0)
    until = time.monotonic() + LONGEST_DEADLINE
    for byte in opening[:-1]:
        peer.sendall(bytes((byte,)))
        time.sleep(rng.uniform(0.05, 0.2))
        if time.monotonic() > until:
            break
    _closed(peer)


def _slow_reader(peer: socket.socket, opening: bytes, rng: random.Random) -> None:
    """Send many requests, and read one byte at a time."""
    _pipeline(peer, opening, rng.randint(10, 200))
    until = time.monotonic() + rng.uniform(1.0, LONGEST_DEADLINE)
    peer.settimeout(1.0)
    while time.monotonic() < until and peer.recv(1):
        time.sleep(0.02)
    reset(peer)


def _no_reader(peer: socket.socket, opening: bytes, rng: random.Random) -> None:
    """Send requests without reading replies."""
    most = MOST_PIPELINED // len(opening)
    _pipeline(peer, opening, most if opening.startswith((*UNLOGGED, b"Flat")) else min(most, MOST_MESSAGES))
    time.sleep(rng.uniform(0.0, LONGEST_DEADLINE))
    if rng.random() < 0.5:
        reset(peer)


def _pipeline(peer: socket.socket, opening: bytes, count: int) -> None:
    peer.settimeout(0.5)
    batch = opening * max(1, min(count, 64 * 1024 // len(opening)))
    with contextlib.suppress(TimeoutError):
        for _ in range(max(1, count * len(opening) // len(batch))):
            peer.sendall(batch)


def _resetting(peer: socket.socket, opening: bytes, rng: random.Random) -> None:
    """Reset the connection after no input, a partial message, a whole one, or the first byte of the reply."""
    stage = rng.randrange(4)
    if stage:
        peer.sendall(_half(opening, rng) if stage == 1 else opening)
    if stage == 3:
        peer.settimeout(1.0)
        peer.recv(1)
    reset(peer)


def _garbage(peer: socket.socket, opening: bytes, rng: random.Random) -> None:
    """Send random bytes, or a message with a few bytes changed."""
    data = bytearray(opening if rng.random() < 0.5 else rng.randbytes(rng.randint(1, 20_000)))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    peer.sendall(data)
    if rng.random() < 0.5 and not hasattr(peer, "unwrap"):
        peer.shutdown(socket.SHUT_WR)
    _closed(peer)


def _oversize(peer: socket.socket, opening: bytes, rng: random.Random) -> None:
    """Send a message without end, or with an excessive announced length."""
    if opening.startswith((b"GET", b"POST")):
        beginnings = (
            b"GET /" + b"a" * 100_000,
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000,
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
        )
        peer.sendall(rng.choice(beginnings))
    else:
        peer.sendall(b"\xff" * 8)
        _pipeline(peer, b"a" * 65536, 32)
    _closed(peer)


def _smuggling(peer: socket.socket, _: bytes, rng: random.Random) -> None:
    """Send an ambiguous request (RFC 9112, section 11.2): the bytes after it must not be read as another request."""
    peer.sendall(rng.choice(AMBIGUOUS) + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    answers = _closed(peer).count(b"HTTP/1.1 ")
    if answers > 1:
        raise Wrong(f"{answers} responses to an ambiguous request")


def _crowd(name: str) -> Visit:
    """Return a visit of more connections than one host, and all hosts together, may open.  Some are served, some
    wait."""

    def hold(place: Place, __: random.Random) -> None:
        there: list[socket.socket] = []
        with contextlib.suppress(OSError):
            for host in CROWD_HOSTS:
                for _ in range(CROWD):
                    there.append(peer := plain(place, name, host))
                    peer.sendall(OPENINGS[name][:1])
            time.sleep(CROWD_SECONDS)
        for turn, peer in enumerate(there):
            if turn % 2:
                peer.close()
            else:
                reset(peer)

    return Visit(name, "a crowd", hold)


def _handshake(name: str, what: str, do: Callable[[socket.socket, random.Random], None]) -> Visit:
    """Return a visit to a TLS listener without a valid handshake."""

    def hold(place: Place, rng: random.Random) -> None:
        with contextlib.suppress(OSError), plain(place, name, rng.choice(HOSTS)) as peer:
            do(peer, rng)

    return Visit(name, what, hold)


#: The first bytes of a ClientHello (RFC 8446, section 5.1), without the rest.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def _half_hello(peer: socket.socket, rng: random.Random) -> None:
    peer.sendall(_half(HELLO, rng))
    _closed(peer)


def _no_hello(peer: socket.socket, rng: random.Random) -> None:
    peer.sendall(rng.choice((HTTP, rng.randbytes(500), HELLO + rng.randbytes(600))))
    _closed(peer)


def _abandoned_hello(peer: socket.socket, rng: random.Random) -> None:
    peer.sendall(HELLO)
    reset(peer)


def _datagrams(name: str) -> Visit:
    """Return a visit that sends random, empty and large datagrams, and closes its socket before the replies arrive."""

    def hold(place: Place, rng: random.Random) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            peer.bind((rng.choice(HOSTS), 0))
            where = "127.255.255.255" if name == "bcast" else "127.0.0.1"
            for _ in range(rng.randint(1, 10)):
                size = rng.choice((0, 1, 11, 12, 500, 9000))
                with contextlib.suppress(OSError):
                    peer.sendto(rng.randbytes(size), (where, place.ports[name]))

    return Visit(name, "datagrams", hold)


#: Daemons that ignore input, or for which any input is a message: nothing can be too slow or too long.
_BOUNDLESS = ("echo", "upper", "welcome", "daytime", "tlsd")

HOSTILE = (
    *(_visit(name, "half a message", _half_open) for name in OPENINGS),
    *(_visit(name, "silence", _silent) for name in OPENINGS),
    *(_visit(name, "slow sender", _slow_sender) for name in OPENINGS if name not in _BOUNDLESS),
    *(_visit(name, "slow reader", _slow_reader, 2048) for name in OPENINGS),
    *(_visit(name, "no reader", _no_reader, 2048) for name in OPENINGS),
    *(_visit(name, "resets", _resetting) for name in OPENINGS),
    *(_visit(name, "garbage", _garbage) for name in OPENINGS),
    *(_visit(name, "too much", _oversize) for name in OPENINGS if name not in _BOUNDLESS),
    *(_visit(name, "smuggling", _smuggling) for name in OPENINGS if OPENINGS[name].startswith((b"GET", b"POST"))),
    *(_handshake(name, "half a handshake", _half_hello) for name in SECURE),
    *(_handshake(name, "no handshake", _no_hello) for name in SECURE),
    *(_handshake(name, "a handshake left", _abandoned_hello) for name in SECURE),
    *(_datagrams(name) for name in ("echo", "udpd", "bcast", "dns")),
)

#: One at a time, and not for a daemon that serves one connection at a time, where all others would queue.
CROWDS = tuple(_crowd(name) for name in OPENINGS if name not in ("welcome", *SECURE))
