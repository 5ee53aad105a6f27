"""Honest visitors: what each daemon is for, and the answers that are right."""

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
from soak.talking import PATIENCE, Parted, Visit, Wrong, connected, exactly, expect, said, said_to

PREFIXED = LengthPrefixed(limit=1024**2)
LINES = Lines(limit=64 * 1024, quoted=True)
BLOCKS = Blocks(limit=1024**2)


def _octets(rng: random.Random, most: int) -> bytes:
    return rng.randbytes(rng.randint(1, most))


def _whole(name: str, make: Callable[[random.Random], tuple[bytes, bytes]]) -> Visit:
    """Everything is said, then everything is heard: `make` returns what is said and what must come."""

    def hold(place: Place, rng: random.Random) -> None:
        words, expected = make(rng)
        expect(said(place, name, words), expected, "the answer")

    return Visit(name, "a whole conversation", hold)


def _in_turn(name: str, make: Callable[[random.Random], tuple[bytes, bytes]]) -> Visit:
    """A question, its answer, the next question."""

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
                expect(exactly(peer, len(expected), first=not turn), expected, "an answer")

    return Visit(name, "question by question", hold)


def _questions(table: dict[bytes, bytes]) -> Callable[[random.Random], tuple[bytes, bytes]]:
    def make(rng: random.Random) -> tuple[bytes, bytes]:
        asked = rng.choices(list(table), k=rng.randint(1, 6))
        return b"".join(asked), b"".join(table[each] for each in asked)

    return make


def _echoed(rng: random.Random) -> tuple[bytes, bytes]:
    octets = _octets(rng, 20_000)
    return octets, octets


def _raised(rng: random.Random) -> tuple[bytes, bytes]:
    octets = _octets(rng, 60_000)
    return octets, octets.upper()


def _prefixed(rng: random.Random) -> tuple[bytes, bytes]:
    octets = PREFIXED.encode(_octets(rng, 5_000))
    return octets, octets


def _quoted(rng: random.Random) -> tuple[bytes, bytes]:
    octets = LINES.encode(_octets(rng, 2_000))
    return octets, octets


def _hashed(rng: random.Random) -> tuple[bytes, bytes]:
    octets = _octets(rng, 200_000)
    return octets, octets + b"\n%s\n" % hashlib.sha256(octets).hexdigest().encode()


def _blocked(rng: random.Random) -> tuple[bytes, bytes]:
    return BLOCKS.encode(Blocked([_octets(rng, 200) for _ in range(rng.randint(0, 5))])), b""


def _daytime(place: Place, _: random.Random) -> None:
    heard = said(place, "daytime", b"")
    if not re.fullmatch(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\n", heard):
        raise Wrong(f"no time: {heard!r}")


def _unix_echo(place: Place, rng: random.Random) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE)
        peer.connect(str(place.path / "run" / "echo.sock"))
        octets = _octets(rng, 20_000)
        expect(said_to(peer, octets), octets, "the echo")


# --- datagrams: each is asked again until it is answered, so that one lost on the way is none of the daemon's ---------


def _udp_echo(place: Place, rng: random.Random) -> None:
    octets = _octets(rng, 1200)
    heard = send_request(Address("udp", host="127.0.0.1", port=place.ports["echo"]), octets, PATIENCE)
    expect(heard, octets, "the echo")


def _udpd(place: Place, rng: random.Random) -> None:
    data = _octets(rng, 1200)
    address = Address("udp", host="127.0.0.1", port=place.ports["udpd"])
    heard = send_request(address, Udpd.question(data), PATIENCE, Udpd.matches)
    expect(Udpd.shown(heard), b"Your data was %d bytes long" % len(data), "the answer")


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
    _whole("twoway", _hashed),
    _whole("blocks", _blocked),
    _whole("streamer", lambda rng: (_octets(rng, 3_000), b"")),
    _whole("sixteen", lambda rng: (rng.randbytes(16), b"Farewell, client")),
    _whole("welcome", lambda _: (b"", b"Thank you for connecting")),
    _whole("tlsd", lambda _: (b"", SECRET)),
    Visit("daytime", "the time", _daytime),
    Visit("udpd", "a datagram", _udpd),
    Visit("bcast", "a broadcast", _bcast),
    Visit("dns", "over UDP", _dns(over_tcp=False)),
    Visit("dns", "over TCP", _dns(over_tcp=True)),
)
