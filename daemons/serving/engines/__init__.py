"""Engines: who runs a conversation, and when.  One file each, one word each in ``engine =``.

Every engine is a socketserver mixin that overrides `process_request`, to be put in front of a server:
``class MyServer(Threads, StreamServer)``.
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

#: ``engine =`` in an ini → the mixin, for streams and for datagrams.
ENGINES: dict[str, tuple[type, type]] = {
    "one": (One, One),
    "threads": (Threads, Threads),
    "forks": (Forks, Forks),
    "pool": (Pool, DatagramPool),
    "loop": (Loop, DatagramLoop),
}


@cache
def stream_server(engine: str, kind: type[StreamServer] = StreamServer) -> type[StreamServer]:
    """The stream server of an engine, by the engine's word; or one of another kind."""
    mixin, _ = ENGINES[engine]
    return type(f"{mixin.__name__}{kind.__name__}", (mixin, kind), {})


@cache
def datagram_server(engine: str) -> type[DatagramServer]:
    """The server of datagrams of an engine, by the engine's word."""
    _, mixin = ENGINES[engine]
    return type(f"{mixin.__name__}DatagramServer", (mixin, DatagramServer), {})


def adopt(engine: str, listener: socket.socket, handler: type, kind: type[StreamServer] = StreamServer) -> Server:
    """A server under `engine` on a socket that is bound already, of whichever kind that is; where it is for streams,
    of this `kind`."""
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
