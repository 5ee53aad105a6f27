"""gunicorn, with two workers of four threads each: `python -m benchmarks.peers.wsgi_gunicorn hello|files`.

It has no access log unless it is asked for one.
"""

from __future__ import annotations

import socket
import sys

from gunicorn.app.wsgiapp import run

from benchmarks.peers.grail import BACKLOG, announce


def main() -> None:
    """Serves until SIGTERM. The socket is made here, since gunicorn does not tell the port in our way."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.set_inheritable(True)
    announce("gunicorn", listener.getsockname()[1])
    application = sys.argv[1]
    shape = ["--worker-class", "gthread", "--workers", "2", "--threads", "4", "--log-level", "warning"]
    sys.argv = ["gunicorn", *shape, "--backlog", str(BACKLOG), "--bind", f"fd://{listener.fileno()}"]
    sys.argv.append(f"benchmarks.peers.wsgi:{application}()")
    run()


if __name__ == "__main__":
    main()
