"""``daemons run`` with a tls:// listener, and a client with a socket."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.certificates import folder
from tests.operating.folder import Folder
from tests.operating.live import Live, until
from tests.serving.tls_client import theirs

HERE = Path(__file__).parents[2]


def serve(tmp_path: Path, spoken: str, *options: str, tls: str = "") -> Live:
    """A daemon that speaks TLS; `spoken` is its service or handler line, `tls` more of [tls]."""
    project = Folder(tmp_path)
    # The services of the tests are found from the project's folder.
    (tmp_path / "tests").symlink_to(HERE / "tests")
    project.write(
        "x",
        f"""
        [daemon]
        {spoken}
        listen = tls://127.0.0.1:0
        [tls]
        certificate = {folder()}/server.pem
        key = {folder()}/server.key
        {tls}
        """,
    )
    return Live(tmp_path, "x", *options)


def plain(daemon: Live) -> socket.socket:
    """Return a connected socket that has sent nothing."""
    return socket.create_connection(("127.0.0.1", daemon.port), 20.0)


def connect(daemon: Live, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """Return a connected TLS socket after the handshake."""
    connected = plain(daemon)
    try:
        return (context or theirs()).wrap_socket(connected, server_hostname="localhost", suppress_ragged_eofs=False)
    except BaseException:
        connected.close()
        raise


def read(peer: ssl.SSLSocket, size: int) -> bytes:
    """Read exactly `size` bytes."""
    heard = bytearray()
    while len(heard) < size:
        data = peer.recv(size - len(heard))
        assert data, bytes(heard)
        heard += data
    return bytes(heard)


def no_goodbye(peer: ssl.SSLSocket) -> bool:
    """Return whether the connection ends without close_notify."""
    with pytest.raises(OSError, match=r"(?i)eof|reset|alert"):
        peer.recv(1)
    return True


def ended(daemon: Live, word: str) -> str:
    """Wait for the access line of a connection that ended with `word`, and return it."""

    def look() -> str:
        return next((line for line in daemon.out.splitlines() if f" {word} messages=" in line), "")

    return until(look, f"a line with {word}: {daemon.out}")
