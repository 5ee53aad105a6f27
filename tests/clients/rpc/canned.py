"""Fixtures of the tests of RPC clients: a server with canned responses, and a running daemon."""

from __future__ import annotations

import socket
import threading
import xmlrpc.client
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from daemons.cli.command import main
from tests.rpc.knights import running


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a daemon that publishes the knights by XML-RPC."""
    with running() as there:
        yield f"http://127.0.0.1:{there.address[1]}/"


def call(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run ``daemons call WORDS``; return the exit code, standard output and standard error."""
    code = main(["call", *words])
    return (code, *capfd.readouterr())


@contextmanager
def serving(*responses: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the URL of a server that sends the next of `responses` to each client, and the requests it has received."""
    requests: list[bytes] = []

    def serve() -> None:
        for response in responses:
            client, _ = listener.accept()
            # The client may stop reading and reset the connection.
            with client, suppress(ConnectionError):
                requests.append(client.recv(65536))
                client.sendall(response)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/", requests
        finally:
            thread.join()


def http_response(body: bytes, status: str = "200 OK") -> bytes:
    """Return a response with this body."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
BODY = xmlrpc.client.dumps((7,), methodresponse=True).encode()
SEVEN = http_response(BODY)
