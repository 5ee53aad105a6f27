"""Stock socketserver: `python -m benchmarks.peers.stock one|threads|forks [batched]`.

The handler is the straightforward one: receive until a question mark, answer, continue with the remainder.
`batched` is the same with one write for all questions that came together, which pipelining rewards.
Nagle's algorithm stays on, as it comes: it joins small writes and doubles the pipelined rate.
"""

from __future__ import annotations

import socket
import socketserver
import sys

from benchmarks.peers.grail import ANSWERS, BACKLOG, CHUNK, UNKNOWN, announce, answer


class Handler(socketserver.BaseRequestHandler):
    """One visitor, one question at a time."""

    request: socket.socket

    def handle(self) -> None:
        pending = b""
        try:
            while True:
                while b"?" not in pending:
                    data = self.request.recv(CHUNK)
                    if not data:
                        return
                    pending += data
                question, mark, pending = pending.partition(b"?")
                self.request.sendall(ANSWERS.get(question + mark, UNKNOWN))
        except ConnectionError:
            pass  # the visitor left; handle_error would print a page about it


class BatchedHandler(socketserver.BaseRequestHandler):
    """One visitor, all complete questions at a time."""

    request: socket.socket

    def handle(self) -> None:
        pending = b""
        try:
            while data := self.request.recv(CHUNK):
                answers, pending = answer(pending + data)
                if answers:
                    self.request.sendall(answers)
        except ConnectionError:
            pass


class One(socketserver.TCPServer):
    """Visitors one after another."""

    request_queue_size = BACKLOG


class Threads(socketserver.ThreadingTCPServer):
    """A thread for each visitor; daemonic, so that the server keeps no list of them."""

    request_queue_size = BACKLOG
    daemon_threads = True


class Forks(socketserver.ForkingTCPServer):
    """A process for each visitor; more than the stock 40 at once, or 64 connections would starve 24."""

    request_queue_size = BACKLOG
    max_children = 1000


SERVERS: dict[str, type[socketserver.TCPServer]] = {"one": One, "threads": Threads, "forks": Forks}


def main() -> None:
    """Serves until SIGTERM."""
    kind, *more = sys.argv[1:]
    handler = BatchedHandler if more == ["batched"] else Handler
    with SERVERS[kind](("127.0.0.1", 0), handler) as server:
        announce(f"stock-{kind}", server.server_address[1])
        server.serve_forever()


if __name__ == "__main__":
    main()
