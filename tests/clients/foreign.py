"""A server that is not ours: plain sockets in a thread, one visitor at a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType

#: What it does with each visitor.
Visit = Callable[[socket.socket], None]


class Foreign:
    """Listens at a port of its own until the end of the ``with``; keeps what each visitor said, which a
    `Visit` returns by `heard`."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20.0)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="foreign server")
        #: The bytes of each conversation, as far as they were read.
        self.heard: list[bytes] = []

    @property
    def port(self) -> str:
        return str(self._listener.getsockname()[1])

    def _serve(self) -> None:
        while True:
            visitor, _ = self._listener.accept()
            with visitor:
                if self._leaving.is_set():
                    return
                visitor.settimeout(20.0)
                self._visit(visitor)

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


def until_delimiter(visitor: socket.socket, delimiter: bytes) -> bytes:
    """One message; what a visitor has said when it leaves."""
    said = b""
    while not said.endswith(delimiter) and (data := visitor.recv(1)):
        said += data
    return said


def until_end(visitor: socket.socket) -> bytes:
    """All that a visitor says before it closes its half."""
    said = b""
    while data := visitor.recv(4096):
        said += data
    return said
