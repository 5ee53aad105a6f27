"""cheroot with its ten threads: `python -m benchmarks.peers.wsgi_cheroot hello|files`."""

from __future__ import annotations

import sys

from cheroot.wsgi import Server

from benchmarks.peers.grail import BACKLOG, announce
from benchmarks.peers.wsgi import APPLICATIONS


def main() -> None:
    """Serves until SIGTERM."""
    server = Server(("127.0.0.1", 0), APPLICATIONS[sys.argv[1]](), request_queue_size=BACKLOG)
    server.prepare()
    announce("cheroot", server.bind_addr[1])
    server.serve()


if __name__ == "__main__":
    main()
