"""Stock ThreadingHTTPServer with SimpleHTTPRequestHandler: `python -m benchmarks.peers.stock_files [undelayed]`.

It writes head and file one after the other, and Nagle's algorithm, which is on as it comes, keeps the file back until
the client has acknowledged the head, which takes 40 ms. `undelayed` is the same without that.
"""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer

from benchmarks.peers.grail import BACKLOG, announce
from benchmarks.unchanged import Files


class Server(ThreadingHTTPServer):
    """A thread for each visitor, which this class makes daemonic by itself."""

    request_queue_size = BACKLOG


class Undelayed(Files):
    """With the switch that `StreamRequestHandler` has for it."""

    disable_nagle_algorithm = True


def main() -> None:
    """Serves until SIGTERM."""
    with Server(("127.0.0.1", 0), Undelayed if sys.argv[1:] == ["undelayed"] else Files) as server:
        announce("stock-files", server.server_address[1])
        server.serve_forever()


if __name__ == "__main__":
    main()
