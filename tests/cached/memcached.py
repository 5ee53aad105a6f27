"""The real memcached, for comparison."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest


class Memcached:
    """A memcached that listens on a Unix socket in `folder`, and one connection to it.

    Without the program, the test is skipped."""

    def __init__(self, folder: Path) -> None:
        if (program := shutil.which("memcached")) is None:
            pytest.skip("memcached is missing: make engines")
        self.path = folder / "memcached.sock"
        self._process = subprocess.Popen(
            # Its background threads would hold an item now and then.  incr then makes a new item instead of changing
            # the old one: the number is not padded, and the item is no longer stale.
            [program, *f"-s {self.path} -U 0 -m 64 -t 1 -o no_lru_crawler,no_lru_maintainer".split()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.socket = self._connect()
        except BaseException:
            self._end()
            raise

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + 15
        while True:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(15)
            try:
                connection.connect(str(self.path))
                return connection
            except OSError:
                connection.close()
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.01)

    def ask(self, data: bytes) -> bytes:
        """Send whole commands; return the replies to them."""
        self.socket.sendall(data + b"mn\r\n")
        received = b""
        while not received.endswith(b"MN\r\n"):
            piece = self.socket.recv(1024**2)
            assert piece, f"memcached has closed the connection after {data!r}; replies: {received!r}"
            received += piece
        return received[:-4]

    def close(self) -> None:
        self.socket.close()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()
