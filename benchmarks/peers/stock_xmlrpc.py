"""Stock SimpleXMLRPCServer with ThreadingMixIn: `python -m benchmarks.peers.stock_xmlrpc`.

Without a request log, as ours has one line for each conversation only. Connections are kept.
"""

from __future__ import annotations

from operator import add
from socketserver import ThreadingMixIn
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from benchmarks.peers.grail import BACKLOG, announce


class Handler(SimpleXMLRPCRequestHandler):
    """Handler with HTTP/1.1, which keeps connections."""

    protocol_version = "HTTP/1.1"


class Server(ThreadingMixIn, SimpleXMLRPCServer):
    """A thread for each visitor."""

    request_queue_size = BACKLOG
    daemon_threads = True


def main() -> None:
    """Serves until SIGTERM."""
    with Server(("127.0.0.1", 0), Handler, logRequests=False) as server:
        server.register_function(add, "add")
        announce("stock-xmlrpc", server.server_address[1])
        server.serve_forever()


if __name__ == "__main__":
    main()
