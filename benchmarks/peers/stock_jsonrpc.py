"""jsonrpcserver on ThreadingHTTPServer, as its documentation shows it: `python -m benchmarks.peers.stock_jsonrpc`.

Connections are kept; and as in SimpleXMLRPCServer, an answer is written at once, and nothing is delayed.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from jsonrpcserver import Result, Success, dispatch, method

from benchmarks.peers.grail import BACKLOG, announce


@method
def add(one: int, other: int) -> Result:
    """The sum."""
    return Success(one + other)


class Handler(BaseHTTPRequestHandler):
    """One call a request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """One call."""
        answer = dispatch(self.rfile.read(int(self.headers["Content-Length"])).decode()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: ours has a line for each conversation only."""


class Server(ThreadingHTTPServer):
    """A thread for each visitor."""

    request_queue_size = BACKLOG


def main() -> None:
    """Serves until SIGTERM."""
    with Server(("127.0.0.1", 0), Handler) as server:
        announce("stock-jsonrpc", server.server_address[1])
        server.serve_forever()


if __name__ == "__main__":
    main()
