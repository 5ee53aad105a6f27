"""``test.test_socketserver``, with our servers and engines in place of the stock ones.  See docs/cpython-suites.md."""

from __future__ import annotations

import socket
import socketserver
import unittest
from typing import Any

from daemons.serving.datagram import DatagramServer
from daemons.serving.engines import DatagramPool, Forks, Pool, Threads
from daemons.serving.stream import StreamServer
from tests.cpython.suites import Unlike, cases, like, load

_LEFT = "a handler's sys.exit() is a bug like any other: it ends no daemon, and is handled as an error"

#: Cases that cannot pass, with the reasons.
UNLIKE = {
    "ErrorHandlerTest.test_sync_not_handled": Unlike(_LEFT, "SystemExit not raised"),
    "ErrorHandlerTest.test_threading_not_handled": Unlike(_LEFT, r"Handler called\\nError handled\\n' != 'Handler"),
    "ErrorHandlerTest.test_forking_not_handled": Unlike(_LEFT, r"Handler called\\nError handled\\n' != 'Handler"),
}


class Waiting:
    """`server_close` waits for active requests, as in the stock mixins."""

    block_on_close = True


class Threading(Waiting, Threads):
    daemon_threads = False


class Forking(Waiting, Forks):
    pass


class UnixStreamServer(StreamServer):
    address_family = socket.AF_UNIX


class UnixDatagramServer(DatagramServer):
    address_family = socket.AF_UNIX


OURS = {
    "TCPServer": StreamServer,
    "UnixStreamServer": UnixStreamServer,
    "UDPServer": DatagramServer,
    "UnixDatagramServer": UnixDatagramServer,
}


def _suite(**mixins: tuple[type, type]) -> Any:
    """Return the suite with mixins for streams and datagrams, whose names have a prefix before the stock names."""
    names: dict[str, type] = dict(OURS)
    for word, (for_streams, for_datagrams) in mixins.items():
        for name, kind in OURS.items():
            mixin = for_datagrams if issubclass(kind, DatagramServer) else for_streams
            names[word + name] = type(word + name, (mixin, kind), {})
    words = {f"{word}MixIn": for_streams for word, (for_streams, _) in mixins.items()}
    return load("test_socketserver", socketserver=like(socketserver, **names, **words))


suite = _suite(Threading=(Threading, Threading), Forking=(Forking, Forking))
# What of it looks at the module itself is none of ours.
suite.MiscTestCase.test_all = None
globals().update(cases(suite, "mixed_in", UNLIKE, of=unittest.TestCase))

suite = _suite(Threading=(Pool, DatagramPool), Forking=(Forks, Forks))
globals().update(cases(suite, "pool", UNLIKE, of=suite.SocketServerTest))
