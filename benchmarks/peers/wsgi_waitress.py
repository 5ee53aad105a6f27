"""waitress with its four threads: `python -m benchmarks.peers.wsgi_waitress hello|files`.

Its 100 connections at a time are enough for the load.
"""

from __future__ import annotations

import sys

import waitress

from benchmarks.peers.grail import BACKLOG, announce
from benchmarks.peers.wsgi import APPLICATIONS


def main() -> None:
    """Serves until SIGTERM."""
    server = waitress.create_server(APPLICATIONS[sys.argv[1]](), host="127.0.0.1", port=0, backlog=BACKLOG)
    announce("waitress", server.effective_port)
    server.run()


if __name__ == "__main__":
    main()
