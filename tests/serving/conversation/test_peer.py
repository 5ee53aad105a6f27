"""Services that need the peer's address are given it when the talk begins."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daemons import Lines, Peer, Reply, Service, Talk
from daemons.serving.conversation.tls import TLS
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.peers import connect, hear, name_of
from tests.serving.running import Within
from tests.serving.tls_client import ours, theirs


class Mirror(Service):
    """Send each peer its own address."""

    framing = Lines(limit=100)

    def talk(self, peer: Peer) -> Talk:
        reply: Reply | None = None
        while True:
            yield reply
            reply = f"{peer.address} {peer.host} {peer.secure}".encode()


Start = Callable[..., Within]
ENGINES = pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])


@ENGINES
def test_talk_is_given_the_address_of_the_peer(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(Mirror()))
    for _ in range(2):
        with connect(running.address) as peer:
            peer.sendall(b"1\n2\n")
            hear(peer, 2 * f"{name_of(peer)} 127.0.0.1 False\n".encode())


@ENGINES
def test_talk_behind_a_proxy_is_given_the_address_in_the_header(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(Mirror()))
    running.server.access = replace(running.server.access, proxies=(ipaddress.ip_network("127.0.0.1"),))
    with connect(running.address) as peer:
        peer.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1060\r\n1\n")
        hear(peer, b"192.0.2.7:4242 192.0.2.7 False\n")


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_talk_over_tls_is_given_a_secure_peer(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(Mirror()))
    assert isinstance(running.server, StreamServer)
    running.server.tls = TLS(ours())
    with (
        connect(running.address) as plain,
        theirs().wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as peer,
    ):
        peer.sendall(b"1\n")
        hear(peer, f"{name_of(peer)} 127.0.0.1 True\n".encode())


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_talk_over_a_unix_socket_is_given_the_process(engine: str, within: Start, tmp_path: Path) -> None:
    running = within(engine, Pump.for_service(Mirror()), address=str(tmp_path / "mirror.sock"))
    with connect(running.address) as peer:
        peer.sendall(b"1\n")
        hear(peer, f"unix:pid={os.getpid()},uid={os.getuid()} unix False\n".encode())
