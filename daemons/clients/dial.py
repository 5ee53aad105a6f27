"""Connecting to where a daemon listens."""

from __future__ import annotations

import socket

from daemons.serving.address import Address


class NetworkError(Exception):
    """The conversation could not be held.  The text names the peer and the reason; the cause is the
    exception that the socket raised."""

    def __init__(self, address: Address, error: Exception) -> None:
        # TimeoutError('timed out') has no strerror, and gaierror's number is no errno (T31).
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        super().__init__(f"{address}: {reason.lower()}")


def dial(address: Address, timeout: float) -> socket.socket:
    """A connected socket, whose operations time out after `timeout` seconds.

    A host name may stand for several addresses; each is tried in turn.  A wildcard is dialled at the
    loopback.  Raises `NetworkError`."""
    try:
        if address.scheme == "unix":
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                peer.settimeout(timeout)
                peer.connect(address.path)
            except BaseException:
                peer.close()
                raise
            return peer
        host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
        return socket.create_connection((host, address.port), timeout)
    except (OSError, UnicodeError) as error:
        raise NetworkError(address, error) from error
