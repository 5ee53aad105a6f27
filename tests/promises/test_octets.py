"""Arbitrary input: no bytes from a peer end a daemon, and no reply contains the text of an exception."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable

import pytest

from tests.serving.conftest import ENGINES
from tests.serving.peers import connect, converse, hear_all
from tests.serving.running import Process

#: Octet strings, over so many connections.
STRINGS = 10_000
VISITORS = 100

Launch = Callable[..., Process]


def strings(seed: int) -> list[bytes]:
    """Return random byte strings, and random sequences of protocol elements, including whole questions."""
    chance = random.Random(seed)
    meaning = [b"?", b"What is your name?", b"\r\n", b"\0", b"\xff\xfe", b"%s%n", b"\x16\x03\x01", b"PROXY TCP4 "]
    return [
        b"".join(
            chance.choice(meaning) if chance.random() < 0.3 else chance.randbytes(chance.randrange(20))
            for _ in range(chance.randrange(1, 4))
        )
        for _ in range(STRINGS // VISITORS)
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_ten_thousand_byte_strings_end_no_daemon(engine: str, process: Launch) -> None:
    running = process("launcelot", engine)
    for seed in range(VISITORS):
        with connect(running.address) as peer:
            if seed % 10 == 0:  # reset without reading
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sendall(b"".join(strings(seed)))
            if seed % 10:
                peer.shutdown(socket.SHUT_WR)
                heard = hear_all(peer)
                assert heard == b"" or heard.startswith((b"My name", b"I don't know that."))
                assert b"Error" not in heard
                assert b"Traceback" not in heard
    assert converse(running.address, b"What is your quest?")[0] == b"To seek the Holy Grail."
    running.signal()
    assert running.wait() == 0
    assert "Traceback" not in running.all_said()[0]
