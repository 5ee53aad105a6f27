"""Runs what CPython tests its XML-RPC server with, our classes in the place of its own.  To be run as a program: it
changes modules, and leaves a test's connections to their garbage collection.  Prints the names of failed tests.
"""

from __future__ import annotations

import importlib
import sys
import unittest
import xmlrpc.server
from typing import Any

from daemons.rpc.xml import server
from daemons.rpc.xml.dispatcher import Dispatcher
from daemons.serving.guards.limits import Limits

#: Those that talk to a server, or have a dispatcher.
CASES = (
    "CGIHandlerTestCase FailingServerTestCase GzipServerTestCase HeadersServerTestCase KeepaliveServerTestCase1 "
    "KeepaliveServerTestCase2 MultiPathServerTestCase SimpleServerEncodingTestCase SimpleServerTestCase"
)


class Server(server.XMLRPCServer):
    """CPython's test server registers its instance with dotted names, which our server refuses."""

    #: A test that fails keeps its client in the traceback, and since 3.13 waits for the end of the connection.
    limits = Limits(idle_timeout=1.0)

    def register_instance(self, instance: Any, allow_dotted_names: bool = False) -> None:
        super().register_instance(instance)


class Shared(type):
    """Metaclass that sets an attribute in the class given to the server.  The server runs a subclass of it, while the
    tests store results in ``self.__class__`` and read them from the given class."""

    def __setattr__(cls, name: str, value: object) -> None:
        given = [kind for kind in cls.__mro__ if kind.__qualname__ == cls.__qualname__][-1]
        type.__setattr__(given, name, value)


class Handler(server.XMLRPCRequestHandler, metaclass=Shared):
    pass


def main() -> None:
    replaced: Any = xmlrpc.server
    replaced.SimpleXMLRPCDispatcher = Dispatcher
    replaced.SimpleXMLRPCServer = Server
    replaced.SimpleXMLRPCRequestHandler = Handler
    replaced.MultiPathXMLRPCServer = server.MultiPathXMLRPCServer
    # Now: its classes are subclasses of these.
    tests: Any = importlib.import_module("test.test_xmlrpc")
    # Its server is to take two connections, one for each call; ours keeps the first, and no other would follow.
    tests.MultiPathServerTestCase.request_count = 1
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(getattr(tests, name)) for name in CASES.split()
    )
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
    print(result.testsRun, len(result.skipped))
    for test, _ in (*result.failures, *result.errors):
        print(test.id().rpartition(".")[2])


if __name__ == "__main__":
    main()
