"""Engines: concurrency models for conversations, one for each value of ``engine =``.

Every engine is a socketserver mixin that precedes the server class: ``class MyServer(Threads, StreamServer)``.  It
overrides `process_request`, or inherits an override (`Threads`: from `socketserver.ThreadingMixIn`), except
`DatagramLoop`, which serves each datagram in the accept loop.
"""

from __future__ import annotations

import socket
from functools import cache

from daemons.serving.datagram import DatagramServer
from daemons.serving.engines.forks import Forks
from daemons.serving.engines.loop import DatagramLoop, Loop
from daemons.serving.engines.one import One
from daemons.serving.engines.pool import DatagramPool, Pool
from daemons.serving.engines.threads import Threads
from daemons.serving.server import Server
from daemons.serving.stream import StreamServer

#: ``engine =`` in an ini → the mixins for streams and for datagrams.
ENGINES: dict[str, tuple[type, type]] = {
    "one": (One, One),
    "threads": (Threads, Threads),
    "forks": (Forks, Forks),
    "pool": (Pool, DatagramPool),
    "loop": (Loop, DatagramLoop),
}


@cache
def stream_server(engine: str, kind: type[StreamServer] = StreamServer) -> type[StreamServer]:
    """Return the stream server class of an engine, derived from `kind`."""
    mixin, _ = ENGINES[engine]
    return type(f"{mixin.__name__}{kind.__name__}", (mixin, kind), {})


@cache
def datagram_server(engine: str) -> type[DatagramServer]:
    """Return the datagram server class of an engine."""
    _, mixin = ENGINES[engine]
    return type(f"{mixin.__name__}DatagramServer", (mixin, DatagramServer), {})


def adopt(engine: str, listener: socket.socket, handler: type, kind: type[StreamServer] = StreamServer) -> Server:
    """Return a server with this engine on a bound socket: a datagram server, or a stream server derived from `kind`."""
    over_udp = listener.type == socket.SOCK_DGRAM
    server: type[Server] = datagram_server(engine) if over_udp else stream_server(engine, kind)  # type: ignore[arg-type]  # classes can be hashed
    return server.adopt(listener, handler)


__all__ = [
    "ENGINES",
    "DatagramLoop",
    "DatagramPool",
    "Forks",
    "Loop",
    "One",
    "Pool",
    "Threads",
    "adopt",
    "datagram_server",
    "stream_server",
]
