"""Datagrams whose reply would be answered again are dropped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from daemons import Service
from daemons.serving.engines import datagram_server
from daemons.serving.guards.reflection import is_of_this_machine, may_loop
from daemons.serving.pump import Pump
from tests.serving.peers import name_of
from tests.serving.running import Within
from tests.serving.services import LINE, Echo, RawDatagram

each_engine = pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])


class Symmetric(Service):
    """Answers clients that have its own port."""

    framing = LINE
    same_port = True

    def respond(self, line: bytes) -> bytes:
        return line


@pytest.mark.parametrize(
    ("source", "same_port", "expected"),
    [
        (("192.0.2.1", 50000), False, False),
        (("192.0.2.1", 0), False, True),
        (("192.0.2.1", 7), True, True),
        (("192.0.2.1", 19), False, True),
        (("192.0.2.1", 1060), False, True),
        (("192.0.2.1", 1060), True, False),
        (("127.0.0.1", 1060), True, True),
        (("127.1.2.3", 1060), True, True),
        (("::1", 1060), True, True),
        (("fe80::1%nowhere", 1060), True, False),
    ],
)
def test_sources_that_may_reply_to_a_reply(source: tuple[str, int], same_port: bool, expected: bool) -> None:
    assert may_loop(*source, {1060, 1061}, same_port=same_port) is expected


def test_an_address_of_this_machine_can_be_bound() -> None:
    assert is_of_this_machine("127.0.0.1")
    assert not is_of_this_machine("192.0.2.1")


@each_engine
@pytest.mark.parametrize("spoken", [Echo, RawDatagram, Symmetric])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_datagram_from_the_daemon_itself_is_not_answered(
    within: Callable[..., Within], engine: str, spoken: Any, host: str
) -> None:
    handler = Pump.for_service(spoken()) if issubclass(spoken, Service) else spoken
    running = within(datagram_server(engine), handler, None, (host, 0))
    port = running.address[1]
    running.server.socket.sendto(b"a\n", ("127.0.0.1", port))
    running.log_line(f"127.0.0.1:{port} refused ", " sent=0 ", "reason=loop")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
        another.bind(("127.0.0.2", port) if host == "127.0.0.1" else ("127.0.0.1", 0))
        if host == "127.0.0.1":  # the same port at another address of this machine
            another.sendto(b"a\n", ("127.0.0.1", port))
            running.log_line(f"127.0.0.2:{port} refused ", " sent=0 ", "reason=loop")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(10.0)
        peer.connect(("127.0.0.1", port))
        peer.send(b"a\n")
        assert peer.recv(10).lower() == b"a\n"
        running.log_line(f"{name_of(peer)} ")
