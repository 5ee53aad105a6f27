"""At the limit of connections, the listeners of a daemon are served in turn."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from daemons import Peer, Service, Talk
from daemons.serving import connection
from daemons.serving.daemon import OVER, Daemon
from daemons.serving.engines import datagram_server, stream_server
from daemons.serving.guards import eviction
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.server import Server
from tests.serving.peers import DEADLINE, ask, connect
from tests.serving.services import LINE, Echo

#: Clients at each listener: more than there are places.
CLIENTS = 4
PLACES = 2

#: Number of times that a stream takes a place.  Each listener must serve at least a third of its fair share.
TAKEN = 240

#: Engines that take their turns in the thread of the test.
each_engine = pytest.mark.parametrize("engine", ["one", "threads", "loop"])

#: The first listener would win.
each_order = pytest.mark.parametrize(
    "transports", [("tcp", "tcp", "unix"), ("tcp", "udp"), ("udp", "unix", "tcp")], ids="-".join
)


class Once(Service):
    """Echo one line."""

    framing = LINE

    def talk(self, peer: Peer, /) -> Talk:
        line: bytes = yield None
        return line


class Crowd:
    """Clients of one listener: each sends its line, and is replaced when it is answered or closed."""

    def __init__(self, transport: str, address: Any, line: bytes) -> None:
        self._kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self._family = socket.AF_UNIX if transport == "unix" else socket.AF_INET
        self._address, self._line = address, b"datagram\n" if transport == "udp" else line
        self._clients: list[socket.socket] = []

    def fill(self) -> None:
        while len(self._clients) < CLIENTS:
            client = socket.socket(self._family, self._kind)
            self._clients.append(client)
            client.settimeout(DEADLINE)
            client.connect(self._address)
            if self._line:
                client.send(self._line)

    def replace_served(self) -> int:
        """Replace the clients that were answered or closed, and return their number."""
        ready, _, _ = select.select(self._clients, [], [], 0)
        for client in ready:
            self._clients.remove(client)
            client.close()
        self.fill()
        return len(ready)

    def close(self) -> None:
        for client in self._clients:
            client.close()


Served = Callable[[str, Sequence[str], bytes], list[int]]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Run a daemon turn by turn, with a crowd at each listener; return how many each of them served."""
    monkeypatch.setattr(eviction, "SCAN_INTERVAL", 1e-6)
    monkeypatch.setattr(eviction, "IDLE_GRACE", 0.0)
    monkeypatch.setattr(connection, "GRACE", 0.0)
    with ExitStack() as stack:

        def run(engine: str, transports: Sequence[str], line: bytes) -> list[int]:
            servers: list[Server] = []
            for number, transport in enumerate(transports):
                kind: type[Any] = datagram_server(engine) if transport == "udp" else stream_server(engine)
                address = str(tmp_path / str(number)) if transport == "unix" else ("127.0.0.1", 0)
                server = kind(address, Pump.for_service(Once()))
                stack.callback(server.server_close)
                server.limits = Limits(max_connections=PLACES)
                servers.append(server)
            daemon = Daemon(servers)
            crowds = [
                Crowd(transport, server.server_address, line)
                for transport, server in zip(transports, servers, strict=True)
            ]
            for crowd in crowds:
                stack.callback(crowd.close)
                crowd.fill()
            counts: Counter[int] = Counter()
            until = time.monotonic() + DEADLINE
            taken = 0
            while taken < TAKEN and time.monotonic() < until:
                daemon.turn()
                for number, crowd in enumerate(crowds):
                    counts[number] += (count := crowd.replace_served())
                    taken += count if transports[number] != "udp" else 0
            daemon.state = OVER
            daemon.serve_forever()
            return [counts[number] for number in range(len(transports))]

        yield run


@each_engine
@each_order
def test_places_that_become_free_are_filled_from_each_listener(
    served: Served, engine: str, transports: Sequence[str]
) -> None:
    found = served(engine, transports, b"stream\n")
    assert min(found) >= TAKEN / len(transports) / 3, found


@each_engine
@each_order
def test_places_of_evicted_connections_are_filled_from_each_listener(
    served: Served, engine: str, transports: Sequence[str]
) -> None:
    found = served(engine, transports, b"half a line")
    assert min(found) >= TAKEN / len(transports) / 3, found


@pytest.mark.parametrize("engine", ["threads", "pool", "loop"])
def test_datagrams_are_answered_while_connections_keep_every_place(engine: str) -> None:
    handler = Pump.for_service(Echo())
    stream, datagrams = (
        stream_server(engine)(("127.0.0.1", 0), handler),
        datagram_server(engine)(("127.0.0.1", 0), handler),
    )
    stream.limits = datagrams.limits = Limits(max_connections=PLACES)
    daemon = Daemon([stream, datagrams])
    thread = threading.Thread(target=daemon.serve_forever)
    with ExitStack() as stack:
        for server in (stream, datagrams):
            stack.callback(server.server_close)
        thread.start()
        stack.callback(thread.join)
        stack.callback(daemon.shutdown)
        for _ in range(PLACES):
            ask(stack.enter_context(connect(stream.server_address)), b"a\n", b"a\n")
        peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        peer.settimeout(DEADLINE)
        peer.connect(datagrams.server_address)
        for number in range(20):
            ask(peer, b"%d\n" % number, b"%d\n" % number)
        assert stream.active == PLACES
