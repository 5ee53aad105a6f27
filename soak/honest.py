"""Honest clients: valid conversations with each daemon, and the expected replies."""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections.abc import Callable

import dns.message
import dns.query
import dns.rcode

from daemons import Blocked, Blocks, LengthPrefixed, Lines
from daemons.clients.net.datagram import send_broadcast, send_request
from daemons.launcelot import ANSWERS as LAUNCELOT
from daemons.serving.listening.address import Address
from daemons.tlsd import SECRET
from daemons.udpd import Udpd
from daemons.zen import ANSWERS as ZEN
from soak.place import Place
from soak.talking import PATIENCE, Parted, Visit, Wrong, connected, exactly, exchange, expect, plain, send_all

PREFIXED = LengthPrefixed(limit=1024**2)
LINES = Lines(limit=64 * 1024, quoted=True)
BLOCKS = Blocks(limit=1024**2)


def _random_bytes(rng: random.Random, most: int) -> bytes:
    return rng.randbytes(rng.randint(1, most))


def _whole(name: str, make: Callable[[random.Random], tuple[bytes, bytes]]) -> Visit:
    """Return a visit that sends everything before it reads: `make` returns the input and the expected output."""

    def hold(place: Place, rng: random.Random) -> None:
        words, expected = make(rng)
        expect(send_all(place, name, words), expected, "the reply")

    return Visit(name, "a whole conversation", hold)


def _in_turn(name: str, make: Callable[[random.Random], tuple[bytes, bytes]]) -> Visit:
    """Return a visit that sends each message after the reply to the one before."""

    def hold(place: Place, rng: random.Random) -> None:
        with connected(place, name) as peer:
            for turn in range(rng.randint(1, 5)):
                question, expected = make(rng)
                try:
                    peer.sendall(question)
                except ConnectionError:
                    if turn:
                        raise Parted from None
                    raise
                expect(exactly(peer, len(expected), first=not turn), expected, "a reply")

    return Visit(name, "question by question", hold)


def _questions(table: dict[bytes, bytes]) -> Callable[[random.Random], tuple[bytes, bytes]]:
    def make(rng: random.Random) -> tuple[bytes, bytes]:
        asked = rng.choices(list(table), k=rng.randint(1, 6))
        return b"".join(asked), b"".join(table[each] for each in asked)

    return make


def _echoed(rng: random.Random) -> tuple[bytes, bytes]:
    message = _random_bytes(rng, 20_000)
    return message, message


def _raised(rng: random.Random) -> tuple[bytes, bytes]:
    message = _random_bytes(rng, 60_000)
    return message, message.upper()


def _prefixed(rng: random.Random) -> tuple[bytes, bytes]:
    message = PREFIXED.encode(_random_bytes(rng, 5_000))
    return message, message


def _quoted(rng: random.Random) -> tuple[bytes, bytes]:
    message = LINES.encode(_random_bytes(rng, 2_000))
    return message, message


def _hashed(rng: random.Random) -> tuple[bytes, bytes]:
    message = _random_bytes(rng, 200_000)
    return message, message + b"\n%s\n" % hashlib.sha256(message).hexdigest().encode()


def _blocked(rng: random.Random) -> tuple[bytes, bytes]:
    return BLOCKS.encode(Blocked([_random_bytes(rng, 200) for _ in range(rng.randint(0, 5))])), b""


def _cached(rng: random.Random) -> tuple[bytes, bytes]:
    """Store a value, read it, and remove it, so that the cache does not grow."""
    key, value = b"key:%d" % rng.getrandbits(60), _random_bytes(rng, 20_000)
    sent = b"set %b 0 60 %d\r\n%b\r\nget %b\r\ndelete %b\r\n" % (key, len(value), value, key, key)
    return sent, b"STORED\r\nVALUE %b 0 %d\r\n%b\r\nEND\r\nDELETED\r\n" % (key, len(value), value)


def _daytime(place: Place, _: random.Random) -> None:
    received = send_all(place, "daytime", b"")
    if not re.fullmatch(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\n", received):
        raise Wrong(f"not a time: {received!r}")


def _unix_echo(place: Place, rng: random.Random) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE)
        peer.connect(str(place.path / "run" / "echo.sock"))
        message = _random_bytes(rng, 20_000)
        expect(exchange(peer, message), message, "the echo")


# --- datagrams: each is repeated until it is answered, so that packet loss is not reported as a fault -----------------


def _udp_echo(place: Place, rng: random.Random) -> None:
    message = _random_bytes(rng, 1200)
    received = send_request(Address("udp", host="127.0.0.1", port=place.ports["echo"]), message, PATIENCE)
    expect(received, message, "the echo")


def _udpd(place: Place, rng: random.Random) -> None:
    data = _random_bytes(rng, 1200)
    address = Address("udp", host="127.0.0.1", port=place.ports["udpd"])
    received = send_request(address, Udpd.question(data), PATIENCE, Udpd.matches)
    expect(Udpd.shown(received), b"Your data was %d bytes long" % len(data), "the answer")


def _bcast(place: Place, _: random.Random) -> None:
    address = Address("udp", host="127.255.255.255", port=place.ports["bcast"])
    expect(next(send_broadcast(address, b"Broadcast datagram!", PATIENCE))[1], b"I hear you.", "the answer")


NAMES = {
    ("camelot.test.", "A"): "127.0.0.1",
    ("ns.lake.camelot.test.", "A"): "127.0.0.54",
    ("robin.knight.camelot.test.", "A"): "127.0.0.31",
    ("25.0.0.127.in-addr.arpa.", "PTR"): "mail.camelot.test.",
}


def _dns(*, over_tcp: bool) -> Callable[[Place, random.Random], None]:
    def hold(place: Place, rng: random.Random) -> None:
        (name, kind), expected = rng.choice(list(NAMES.items()))
        query = dns.message.make_query(name, kind)
        port = place.ports["dns"]
        if over_tcp:
            answer = dns.query.tcp(query, "127.0.0.1", PATIENCE, port)
        else:
            address = Address("udp", host="127.0.0.1", port=port)
            wire = send_request(address, query.to_wire(), PATIENCE)
            answer = dns.message.from_wire(wire)
        expect(answer.id, query.id, "the id")
        expect([str(each) for rrset in answer.answer for each in rrset], [expected], f"{name} {kind}")

    return hold


def _chat(place: Place, rng: random.Random) -> None:
    name, line = b"%x" % rng.getrandbits(64), b"%x" % rng.getrandbits(64)
    with plain(place, "chat") as peer, peer.makefile("rb") as lines:
        expect(lines.readline(), b"What is your name?\n", "the greeting")
        peer.sendall(b"%b\n%b\n" % (name, line))
        expected = [b"* %b enters\n" % name, b"%b: %b\n" % (name, line)]
        while expected:
            received = lines.readline()
            if not received or name in received:  # the lines of others come in between
                expect(received, expected.pop(0), "the line")


def _guess(place: Place, rng: random.Random) -> None:
    with plain(place, "guess") as peer, peer.makefile("rb") as lines:
        question = lines.readline()
        peer.sendall(b"%d\n" % rng.randint(1, 100))
        answers = (
            (b"Your number is ",)
            if question == b"Choose a number from 1 to 100.\n"
            else (b"Right.", b"Higher.", b"Lower.")
        )
        answer = lines.readline()
        expect(answer.startswith(answers), True, f"the answer {answer!r} to {question!r}")


HONEST = (
    _whole("launcelot", _questions(LAUNCELOT)),
    _in_turn("launcelot", _questions(LAUNCELOT)),
    _whole("zen", _questions(ZEN)),
    _in_turn("zen", _questions(ZEN)),
    _whole("echo", _echoed),
    _in_turn("echo", _echoed),
    Visit("echo", "through the Unix socket", _unix_echo),
    Visit("echo", "a datagram", _udp_echo),
    _whole("upper", _raised),
    _whole("prefix", _prefixed),
    _in_turn("prefix", _prefixed),
    _whole("lines", _quoted),
    _in_turn("lines", _quoted),
    Visit("chat", "a line", _chat),
    Visit("guess", "a number", _guess),
    _whole("slow", lambda _: (b"hello\n", b"5 characters\n")),
    _whole("cached", _cached),
    _in_turn("cached", _cached),
    _whole("twoway", _hashed),
    _whole("blocks", _blocked),
    _whole("streamer", lambda rng: (_random_bytes(rng, 3_000), b"")),
    _whole("sixteen", lambda rng: (rng.randbytes(16), b"Farewell, client")),
    _whole("welcome", lambda _: (b"", b"Thank you for connecting")),
    _whole("tlsd", lambda _: (b"", SECRET)),
    Visit("daytime", "the time", _daytime),
    Visit("udpd", "a datagram", _udpd),
    Visit("bcast", "a broadcast", _bcast),
    Visit("dns", "over UDP", _dns(over_tcp=False)),
    Visit("dns", "over TCP", _dns(over_tcp=True)),
)
