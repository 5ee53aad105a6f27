"""A foreign server: plain sockets in a thread, one client at a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType

#: Serves one client.
Visit = Callable[[socket.socket], None]


class Foreign:
    """A server on an ephemeral port, as a context manager.  `received` has the bytes that each client sent, as
    far as the `Visit` appends them."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20.0)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="foreign server")
        #: The bytes received from each client.
        self.received: list[bytes] = []

    @property
    def port(self) -> str:
        return str(self._listener.getsockname()[1])

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client:
                if self._leaving.is_set():
                    return
                client.settimeout(20.0)
                self._visit(client)

    def __enter__(self) -> Foreign:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        with socket.create_connection(self._listener.getsockname()[:2]):
            self._thread.join(20)
        self._listener.close()


def until_delimiter(client: socket.socket, delimiter: bytes) -> bytes:
    """Receive one message with its delimiter, or the bytes before the end of the connection."""
    message = b""
    while not message.endswith(delimiter) and (data := client.recv(1)):
        message += data
    return message


def until_end(client: socket.socket) -> bytes:
    """Receive all bytes until the client closes its sending side."""
    message = b""
    while data := client.recv(4096):
        message += data
    return message
