"""Zones of link-local IPv6 addresses, on the command lines of clients and in URLs (RFC 4007 and RFC 6874)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator

import httpx2
import pytest

from daemons.cli.command import main
from daemons.clients import tools
from daemons.clients.net.tls_socket import without_zone
from daemons.clients.web import location
from tests.clients.foreign import until_delimiter
from tests.namespaces import Network
from tests.operating.folder import Folder

#: Unique, since the links are created outside of the namespaces; at most 15 characters.
NEAR, FAR = f"near.{os.getpid()}", f"far-{os.getpid()}"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    hosts: dict[str, Iterable[str]] = {
        "near": [f"link set {NEAR} up", f"addr add fe80::1/64 dev {NEAR} nodad"],
        "far": [f"link set {FAR} up", f"addr add fe80::2/64 dev {FAR} nodad"],
    }
    links = [f"link add {NEAR} netns {{near}} type veth peer name {FAR} netns {{far}}"]
    with Network(links, hosts) as made:
        yield made


@pytest.fixture
def peer(network: Network) -> Iterator[tuple[int, list[bytes]]]:
    """The port of a server at the far end, which serves HTTP and echoes lines, and the heads it has received."""
    listener = network.at("far", lambda: socket.create_server(("::", 0), family=socket.AF_INET6))
    received: list[bytes] = []

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            with client:
                first = client.recv(1)
                if first == b"!":
                    return
                line = first + until_delimiter(client, b"\n") if first else b""
                if not line.startswith((b"GET ", b"HEAD ")):
                    client.sendall(line)
                    continue
                head = line + until_delimiter(client, b"\r\n\r\n")
                received.append(head)
                port = listener.getsockname()[1]
                to = b"Location: http://[fe80::2]:%d/there\r\n" % port if b" /moved" in line else b""
                body = b"<a href=/x>x</a>"
                client.sendall(
                    b"HTTP/1.1 %d X\r\n%bConnection: close\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
                    % (302 if to else 200, to, len(body))
                    + (b"" if line.startswith(b"HEAD") else body)
                )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], received
    finally:

        def leave() -> None:
            with socket.create_connection(("::1", listener.getsockname()[1])) as last:
                last.sendall(b"!")

        network.at("far", leave)
        thread.join(20)
        listener.close()


@pytest.mark.parametrize("percent", ["%25", "%"])
def test_fetch_accepts_a_zone_and_does_not_send_it(
    percent: str, network: Network, peer: tuple[int, list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    port, received = peer
    base = f"http://[fe80::2{percent}{NEAR}]:{port}"
    assert network.at("near", lambda: main(["fetch", f"{base}/there"])) == 0
    assert network.at("near", lambda: main(["fetch", f"{base}/moved"])) == 0
    assert capsys.readouterr().out == "<a href=/x>x</a>" * 2
    assert [head.split()[1] for head in received] == [b"/there", b"/moved", b"/there"]
    assert all(b"\r\nHost: [fe80::2]:%d\r\n" % port in head for head in received)


@pytest.mark.parametrize("word", ["links", "scrape"])
def test_links_and_scrape_keep_the_zone(
    word: str, network: Network, peer: tuple[int, list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    port, _ = peer
    words = ("--delay", "0", "--select", "a") if word == "scrape" else ("--depth", "1")
    assert network.at("near", lambda: main([word, f"http://[fe80::2%25{NEAR}]:{port}/", *words])) == 0
    assert capsys.readouterr().out == ("x\n" if word == "scrape" else "1 links: 0 dead, 0 moved\n")


def test_ping_and_ask_accept_a_zone(
    network: Network, peer: tuple[int, list[bytes]], folder: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    port, _ = peer
    folder.write("lines", "[daemon]\nservice = lines\nport = 1060\n")
    assert network.at("near", lambda: main(["ping", f"fe80::2%{NEAR}", str(port)])) == 0
    words = ["ask", "lines", f"fe80::2%{NEAR}", "-p", str(port), "--conf", str(folder.conf), "well met"]
    assert network.at("near", lambda: main(words)) == 0
    assert capfd.readouterr().out.endswith("well met\n")


@pytest.mark.parametrize(
    ("text", "host", "field"),
    [
        ("http://[fe80::1%25eth0]/", "fe80::1%eth0", b"[fe80::1]"),
        ("http://[fe80::1%eth0]:81/", "fe80::1%eth0", b"[fe80::1]:81"),
        ("http://[fe80::1%25br-lan.2]/", "fe80::1%br-lan.2", b"[fe80::1]"),
        ("http://[::1]:81/", "::1", b"[::1]:81"),
        ("http://example.com/", "example.com", b"example.com"),
    ],
)
def test_zone_is_not_part_of_the_host_field(text: str, host: str, field: bytes) -> None:
    url = httpx2.URL(text)
    assert location.host_to_connect(url.raw_host.decode()) == host
    assert location.host_field(url) == field
    assert without_zone(host) == host.partition("%")[0]


@pytest.mark.parametrize("zone", ["eth0", "br-lan", "veth1.20"])
def test_server_argument_accepts_a_zone(zone: str) -> None:
    assert tools.host_and_port(f"fe80::1%{zone}", 53) == (f"fe80::1%{zone}", 53)
    assert tools.host_and_port(f"[fe80::1%{zone}]:5353", 53) == (f"fe80::1%{zone}", 5353)
