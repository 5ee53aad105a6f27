"""One service, every engine, over every transport: none of the three knows of the others."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemons.serving.engines import ENGINES
from tests.certificates import folder as certificates
from tests.operating.folder import Folder
from tests.operating.live import GRAIL, QUEST, Live, until
from tests.serving import peers
from tests.serving.peers import ask
from tests.serving.tls_client import theirs

INI = """
    [daemon]
    service = launcelot
    listen = {listen}
    engine = {engine}
    {more}
"""

TLS = """
    [tls]
    certificate = {folder}/server.pem
    key = {folder}/server.key
"""


@dataclass(frozen=True)
class Transport:
    """One way to reach a daemon.

    listen
        The value of ``listen`` in the ini.
    shown
        The address in the ready line.
    connect
        Return a socket that is connected to the address in the ready line.
    more
        Return further lines of the ini.
    inherits
        Return the socket that the daemon inherits as descriptor 0.
    stream
        Whether it is a byte stream: a question may arrive in pieces, and the peer can end its input.
    """

    listen: str
    shown: str
    connect: Callable[[str], socket.socket]
    more: Callable[[], str] = lambda: ""
    inherits: Callable[[], socket.socket] | None = None
    stream: bool = True


def over_tcp(shown: str) -> socket.socket:
    host, _, port = shown.partition("://")[2].rpartition(":")
    return peers.connect((host.strip("[]"), int(port)))


def over_unix(shown: str) -> socket.socket:
    return peers.connect(shown.removeprefix("unix:"))


def over_tls(shown: str) -> socket.socket:
    peer = over_tcp(shown)
    try:
        return theirs().wrap_socket(peer, server_hostname="localhost")
    except BaseException:
        peer.close()
        raise


def over_udp(shown: str) -> socket.socket:
    host, _, port = shown.partition("://")[2].rpartition(":")
    peer = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET, socket.SOCK_DGRAM)
    peer.settimeout(peers.DEADLINE)
    peer.connect((host.strip("[]"), int(port)))
    return peer


def for_datagrams() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    return bound


TRANSPORTS = {
    "tcp, IPv4": Transport("tcp://127.0.0.1:0", r"tcp://127\.0\.0\.1:\d+", over_tcp),
    "tcp, IPv6": Transport("tcp://[::1]:0", r"tcp://\[::1\]:\d+", over_tcp),
    "unix": Transport("unix:x.sock", r"unix:/.*/x\.sock", over_unix),
    "tls": Transport(
        "tls://127.0.0.1:0", r"tls://127\.0\.0\.1:\d+", over_tls, more=lambda: TLS.format(folder=certificates())
    ),
    "udp, IPv4": Transport("udp://127.0.0.1:0", r"udp://127\.0\.0\.1:\d+", over_udp, stream=False),
    "udp, IPv6": Transport("udp://[::1]:0", r"udp://\[::1\]:\d+", over_udp, stream=False),
    "inherited": Transport(
        "fd://0", r"tcp://127\.0\.0\.1:\d+", over_tcp, inherits=lambda: socket.create_server(("127.0.0.1", 0))
    ),
    "udp, inherited": Transport("fd://0", r"udp://127\.0\.0\.1:\d+", over_udp, inherits=for_datagrams, stream=False),
}

each_transport = pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS.keys())


@contextmanager
def running(path: Path, engine: str, transport: Transport) -> Iterator[Live]:
    """A running daemon, which is stopped at the end and must exit cleanly."""
    Folder(path).write("x", INI.format(listen=transport.listen, engine=engine, more=transport.more()))
    with ExitStack() as stack:
        stdin = subprocess.DEVNULL
        if transport.inherits is not None:
            stdin = stack.enter_context(transport.inherits()).fileno()
        daemon = stack.enter_context(Live(path, "x", stdin=stdin))
        yield daemon
        assert daemon.stop(signal.SIGTERM) == 0
        assert "Traceback" not in daemon.out + daemon.err


@pytest.mark.parametrize("engine", ENGINES)
@each_transport
def test_launcelot_answers(engine: str, transport: Transport, tmp_path: Path) -> None:
    with running(tmp_path, engine, transport) as daemon:
        (shown,) = daemon.addresses
        assert re.fullmatch(transport.shown, shown)
        with transport.connect(shown) as peer:
            ask(peer, QUEST, GRAIL)
            ask(peer, b"What is your favorite color?", b"Blue.")
            if transport.stream:
                for octet in QUEST:
                    peer.sendall(bytes((octet,)))
                ask(peer, b"What", GRAIL)
                ask(peer, b" is your name?" + QUEST, b"My name is Sir Launcelot of Camelot." + GRAIL)
        if transport.stream:
            until(lambda: re.search(r" (done|reset) messages=5 ", daemon.out), "the access line")
        # Several at once, in turn; under `one` they wait for each other.
        with ExitStack() as stack:
            several = [stack.enter_context(transport.connect(shown)) for _ in range(1 if engine == "one" else 8)]
            for _ in range(3):
                for peer in several:
                    peer.sendall(QUEST)
                for peer in reversed(several):
                    ask(peer, b"", GRAIL)
