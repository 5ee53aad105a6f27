"""Outgoing connections to the address of a daemon."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from daemons.clients import tools
from daemons.clients.net.system import refuse_itself
from daemons.serving.listening import unix_client
from daemons.serving.listening.address import Address

if TYPE_CHECKING:
    from daemons.clients.net.tls_socket import TLSClientSocket

#: Receives progress messages, one line each, for verbose output.
Note: TypeAlias = Callable[[str], None]


class NetworkError(tools.ToolError):
    """A connection could not be made, or failed.  The message names the peer and the reason; the cause is the exception
    that the socket raised."""

    def __init__(self, address: Address, error: Exception) -> None:
        super().__init__(f"{address}: {tools.reason_of(error)}")


def ignore_note(line: str) -> None:
    """The `Note` that discards its messages."""


def dial(
    address: Address, timeout: float, cafile: Path | None = None, note: Note = ignore_note
) -> socket.socket | TLSClientSocket:
    """Return a connected socket whose operations time out after `timeout` seconds.

    For tls://, the handshake is complete and the peer's certificate verified against the CAs in `cafile`, or else those
    of the system.  All addresses of a host name are tried in turn.  For a wildcard address, the loopback address is
    used.  Raises `NetworkError`."""
    try:
        if address.scheme == "unix":
            return unix_client.connect(address.path, timeout)
        host = _host(address)
        connected = _connected(host, address.port, timeout)
        note(f"Client has been assigned socket name {connected.getsockname()}")
        return _secured(connected, host, cafile) if address.scheme == "tls" else connected
    except (OSError, UnicodeError) as error:
        raise NetworkError(address, error) from error


def _connected(host: str, port: int, timeout: float) -> socket.socket:
    connected = socket.create_connection((host, port), timeout)
    try:
        refuse_itself(connected)
    except OSError:
        connected.close()
        raise
    return connected


def reachable(address: Address, kind: socket.SocketKind) -> socket.socket:
    """Return a socket of this kind, connected to the first address of the host for which connect(2) succeeds.  Raises
    `OSError`."""
    return next(all_reachable(address, kind))


def all_reachable(address: Address, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """Yield a connected socket for each address of the host for which connect(2) succeeds; the caller closes them.
    Raises `OSError` if there is none."""
    problem: OSError | None = None
    is_reachable = False
    for family, _, protocol, _, where in socket.getaddrinfo(_host(address), address.port, type=kind):
        peer = socket.socket(family, kind, protocol)
        try:
            peer.connect(where)
        except OSError as error:
            peer.close()
            problem = error
        else:
            is_reachable = True
            yield peer
    if not is_reachable:
        raise problem or OSError(f"{address.host} has no address")


def _host(address: Address) -> str:
    """Return the host to connect to: the loopback address in place of a wildcard."""
    return {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)


def _secured(connected: socket.socket, host: str, cafile: Path | None) -> TLSClientSocket:
    from daemons.clients.net.tls_socket import TLSClientSocket  # importing ssl takes long, and few clients need it

    try:
        return TLSClientSocket(connected, host, cafile)
    except BaseException:
        connected.close()
        raise
