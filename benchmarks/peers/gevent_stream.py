"""A gevent StreamServer: a greenlet for each visitor. `python -m benchmarks.peers.gevent_stream`."""

from __future__ import annotations

from socket import IPPROTO_TCP, TCP_NODELAY

import gevent.server
import gevent.socket

from benchmarks.peers.grail import BACKLOG, CHUNK, announce, answer


def handle(connection: gevent.socket.socket, _peer: tuple[str, int]) -> None:
    """One visitor."""
    pending = b""
    try:
        while data := connection.recv(CHUNK):
            answers, pending = answer(pending + data if pending else data)
            if answers:
                connection.sendall(answers)
    except ConnectionError:
        pass  # the visitor left


def main() -> None:
    """Serves until SIGTERM."""
    server = gevent.server.StreamServer(("127.0.0.1", 0), handle, backlog=BACKLOG)
    server.start()
    server.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # connections inherit it
    announce("gevent", server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
