"""Connecting to where a daemon listens."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from daemons.clients import tools
from daemons.serving.listening import unix_client
from daemons.serving.listening.address import Address

if TYPE_CHECKING:
    from daemons.clients.net.tls_socket import TLSClientSocket

#: Is told what is going on, in a line each, for who wants to read that.
Note: TypeAlias = Callable[[str], None]


class NetworkError(tools.ToolError):
    """The conversation could not be held.  The text names the peer and the reason; the cause is the
    exception that the socket raised."""

    def __init__(self, address: Address, error: Exception) -> None:
        super().__init__(f"{address}: {tools.reason_of(error)}")


def silent(line: str) -> None:
    """The `Note` of who does not."""


def dial(
    address: Address, timeout: float, cafile: Path | None = None, note: Note = silent
) -> socket.socket | TLSClientSocket:
    """A connected socket, whose operations time out after `timeout` seconds.  One of tls:// has shaken hands
    with a peer whose certificate is signed by a CA in `cafile`, or else by one that this system trusts.

    A host name may stand for several addresses; each is tried in turn.  A wildcard is dialled at the
    loopback.  Raises `NetworkError`."""
    try:
        if address.scheme == "unix":
            return unix_client.connect(address.path, timeout)
        host = _host(address)
        connected = socket.create_connection((host, address.port), timeout)
        note(f"Client has been assigned socket name {connected.getsockname()}")
        return _secured(connected, host, cafile) if address.scheme == "tls" else connected
    except (OSError, UnicodeError) as error:
        raise NetworkError(address, error) from error


def reachable(address: Address, kind: socket.SocketKind) -> socket.socket:
    """A socket of this kind, connected to the first of the addresses that the host stands for to which there is
    a way.  Raises `OSError`."""
    return next(all_reachable(address, kind))


def all_reachable(address: Address, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """The same for each of these addresses; of every socket it is the taker's to close it.  Raises `OSError` where
    there is a way to none of them."""
    problem: OSError | None = None
    there_is_one = False
    for family, _, protocol, _, where in socket.getaddrinfo(_host(address), address.port, type=kind):
        peer = socket.socket(family, kind, protocol)
        try:
            peer.connect(where)
        except OSError as error:
            peer.close()
            problem = error
        else:
            there_is_one = True
            yield peer
    if not there_is_one:
        raise problem or OSError(f"{address.host} has no address")


def _host(address: Address) -> str:
    """Whom to dial; a wildcard at the loopback."""
    return {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)


def _secured(connected: socket.socket, host: str, cafile: Path | None) -> TLSClientSocket:
    from daemons.clients.net.tls_socket import TLSClientSocket  # ssl is dear, and most do without it

    try:
        return TLSClientSocket(connected, host, cafile)
    except BaseException:
        connected.close()
        raise
