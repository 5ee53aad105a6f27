"""Broadcast: datagrams are logged and answered, each reply from the address of the answering host."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from daemons.bcast import ANSWER, Bcast
from daemons.clients.net.datagram import is_broadcast, send_broadcast
from daemons.clients.net.dial import NetworkError
from daemons.operating.config import ini
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.datagram import DatagramServer
from daemons.serving.listening.address import Address, parse_address
from daemons.serving.pump import Pump
from tests.namespaces import Network
from tests.operating.folder import Folder
from tests.operating.live import Live, daemons, until
from tests.serving.running import Within

CONF = Path(__file__).resolve().parents[1] / "conf"
HELLO = b"Broadcast datagram!"


def answer(datagram: bytes) -> bytes:
    conversation = Conversation(Bcast())
    return conversation.open() + conversation.receive_all(datagram)


@pytest.mark.parametrize("datagram", [HELLO, b"", b"\xff\n\x00", bytes(65_507)], ids=["hello", "", "octets", "long"])
def test_any_datagram_is_logged_and_answered(datagram: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "daemons.bcast"):
        assert answer(datagram) == ANSWER
    assert caplog.messages == [f"Broadcast: {datagram!r}"]


def test_reply_is_not_answered_and_is_no_longer_than_the_request() -> None:
    assert answer(ANSWER) == b""
    assert Bcast.questions == (HELLO,)
    assert len(ANSWER) <= len(HELLO)


def test_the_broadcast_address_of_the_loopback_is_not_public() -> None:
    (address,) = ini.read(CONF, "bcast").addresses
    assert str(address) == "udp://127.255.255.255:1062"
    assert address.loopback
    assert not parse_address("udp://192.0.2.255:1062").loopback


def test_broadcast_address_is_recognized_from_the_kernels_interfaces() -> None:
    assert is_broadcast(Address("udp", "127.255.255.255", 1))
    assert not is_broadcast(Address("udp", "127.0.0.1", 1))
    assert not is_broadcast(Address("udp", "::1", 1))


def test_client_prints_the_address_of_each_answering_host(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("bcast", "[daemon]\nservice = bcast\nlisten = udp://127.255.255.255:0\nengine = loop\n")
    with Live(tmp_path, "bcast") as daemon:
        port = str(daemon.port)
        asked = daemons(tmp_path, "ask", "bcast", "-p", port, "-t", "0.3")
        assert (asked.stdout, asked.stderr) == (f"127.0.0.1:{port}: I hear you.\n", "")
        until(lambda: " done messages=1 received=19 sent=11 " in daemon.out, "the access line")
        assert f"Broadcast: {HELLO!r}\n" in daemon.out
    asked = daemons(tmp_path, "ask", "bcast", "-p", port, "-t", "0.1")
    said = f"bcast: udp://127.255.255.255:{port}: no reply within 0.1 s\n"
    assert (asked.stdout, asked.stderr, asked.returncode) == ("", said, 1)


@pytest.mark.root
def test_each_host_on_a_network_answers_from_its_own_address() -> None:
    """arthur listens on the broadcast address, bedevere on all addresses; galahad is the client."""
    hosts = {"arthur": "10.0.0.1", "bedevere": "10.0.0.2", "galahad": "10.0.0.3"}
    castle = [
        "link add table type bridge",
        "link set table up",
        *(f"link set {host} master table up" for host in hosts),
    ]
    commands = {
        host: [f"address add {where}/24 broadcast 10.0.0.255 dev e0", "link set e0 up"] for host, where in hosts.items()
    }
    links = [f"link add e0 netns {{{host}}} type veth peer name {host} netns {{castle}}" for host in hosts]
    broadcast = Address("udp", "10.0.0.255", 1062)

    def serve(where: str) -> Within:
        return Within(DatagramServer, Pump.for_service(Bcast()), address=(where, broadcast.port))

    def ask() -> list[tuple[str, bytes]]:
        assert is_broadcast(broadcast)
        try:
            return list(islice(send_broadcast(broadcast, HELLO, 0.2), 2))
        except NetworkError:  # the links have not come up yet
            return []

    with Network(links, {**commands, "castle": castle}) as network, ExitStack() as stack:
        for host, where in (("arthur", "10.0.0.255"), ("bedevere", "0.0.0.0")):
            stack.callback(network.at(host, partial(serve, where)).close)
        heard = [("10.0.0.1:1062", ANSWER), ("10.0.0.2:1062", ANSWER)]
        until(lambda: sorted(network.at("galahad", ask)) == heard, "an answer of each")
