"""``daemons mtu``: path MTU discovery."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

import pytest

from daemons.cli.command import main
from daemons.clients.net import mtu
from daemons.serving.listening.address import Address
from tests.namespaces import Network


def found(*words: object) -> int:
    """Run ``daemons mtu WORDS``; return the exit code."""
    parser = argparse.ArgumentParser()
    mtu.add_arguments(parser)
    return mtu.run(parser.parse_args([str(word) for word in words]))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_mtu_of_the_loopback(family: socket.AddressFamily, capsys: pytest.CaptureFixture[str]) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family, socket.SOCK_DGRAM) as bound:
        bound.bind((host, 0))
        closed = bound.getsockname()[1]
    # A closed port: the ICMP error shows that the datagram has arrived.
    assert found(host, closed) == 0
    expected = "The big datagram was sent!" if family == socket.AF_INET else "Alas, the datagram did not make it"
    mtu_of_lo = 65535 if family == socket.AF_INET else 65536  # the longest packet of RFC 791
    assert capsys.readouterr() == (f"{expected}\nActual MTU: {mtu_of_lo}\n", "")


@pytest.mark.root
def test_path_mtu_is_that_of_the_narrowest_link(capsys: pytest.CaptureFixture[str]) -> None:
    """The links: knight to castle with MTU 1400, castle to grail with MTU 1300."""
    with Network(
        [
            "link add c netns {knight} mtu 1400 type veth peer name k netns {castle} mtu 1400",
            "link add g netns {castle} mtu 1300 type veth peer name c netns {grail} mtu 1300",
        ],
        {
            "knight": ["address add 10.0.1.1/24 dev c", "link set c up", "route add default via 10.0.1.2"],
            "castle": [
                "address add 10.0.1.2/24 dev k",
                "address add 10.0.2.2/24 dev g",
                "link set k up",
                "link set g up",
            ],
            "grail": ["address add 10.0.2.1/24 dev c", "link set c up", "route add default via 10.0.2.2"],
        },
    ) as network:
        assert network.at("knight", lambda: found("10.0.1.2")) == 0
        assert capsys.readouterr() == ("Alas, the datagram did not make it\nActual MTU: 1400\n", "")
        network.at("castle", lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        assert network.at("knight", lambda: found("10.0.2.1")) == 0
        assert capsys.readouterr() == ("Alas, the datagram did not make it\nActual MTU: 1300\n", "")


def test_mtu_without_a_response_is_reported_as_preliminary(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        assert mtu.probe(Address("udp", "127.0.0.1", port), 0.01) == mtu.Found(65535, too_long=False, arrived=False)
        assert found("127.0.0.1", port, "-t", "0.01") == 0
    expected = "no response from the host in 0.01 s; the path MTU may be lower"
    assert capsys.readouterr().err == f"daemons mtu: udp://127.0.0.1:{port}: {expected}\n"


@pytest.mark.parametrize(("words", "code"), [(("255.255.255.255",), 1), (("no such host",), 1), (("host", "x"), 2)])
def test_mtu_of_an_unreachable_host_is_an_error(
    words: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if code == 2:
        with pytest.raises(SystemExit):
            found(*words)
        assert "not a port" in capsys.readouterr().err
        return
    assert main(["mtu", *words]) == code
    assert capsys.readouterr().err.startswith(f"daemons mtu: udp://{words[0]}:1060: ")
