"""Admission: accepting what waits in the kernel's queue."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack, closing
from typing import Any

import pytest

from daemons.serving.daemon import Daemon
from daemons.serving.datagram import Datagram
from daemons.serving.engines import datagram_server, stream_server
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from daemons.serving.stream import StreamServer
from tests.serving.services import Echo

#: Maximum seconds of one socket operation.
PATIENCE = 30.0


@pytest.mark.parametrize("engine", ["loop", "pool", "threads"])
def test_drain_accepts_the_rest_of_the_queue_when_one_connection_in_it_was_aborted(engine: str) -> None:
    kind = stream_server(engine)

    class Aborting(kind):  # type: ignore[misc, valid-type]
        """Reports that the first connection was aborted by its peer while it was in the queue, accept(2)."""

        aborted = False

        def get_request(self) -> Any:
            request, address = super().get_request()
            if not self.aborted:
                self.aborted = True
                request.close()
                raise ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort")
            return request, address

    server: StreamServer = Aborting(("127.0.0.1", 0), Pump.for_service(Echo()))
    with closing(server.socket), ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(server.socket.getsockname(), timeout=PATIENCE))
            for _ in range(3)
        ]
        for client in clients:
            client.sendall(b"hello\n")
        daemon = Daemon([server])
        daemon.stop()
        daemon.serve_forever()
        replies = [client.recv(100) for client in clients[1:]]
        server.server_close()
    assert replies == [b"hello\n", b"hello\n"]


@pytest.mark.parametrize("engine", ["loop", "pool", "threads"])
def test_drain_accepts_the_queue_of_a_stream_while_datagrams_never_cease(engine: str) -> None:
    class Endless(datagram_server(engine)):  # type: ignore[misc]
        """Receives a datagram whenever it is asked for one."""

        def get_request(self) -> Any:
            return Datagram((b"hello\n", self.socket)), self.socket.getsockname()

    handler = Pump.for_service(Echo())
    endless = Endless(("127.0.0.1", 0), handler)
    server = stream_server(engine)(("127.0.0.1", 0), handler)
    endless.limits = server.limits = Limits(drain_timeout=2.0)
    with ExitStack() as stack:
        for each in (endless, server):
            stack.callback(each.server_close)
        clients = [
            stack.enter_context(socket.create_connection(server.socket.getsockname(), timeout=PATIENCE))
            for _ in range(3)
        ]
        for client in clients:
            client.sendall(b"hello\n")
        daemon = Daemon([endless, server])
        daemon.stop()
        daemon.serve_forever()
        replies = [client.recv(100) for client in clients]
    assert replies == [b"hello\n"] * 3
