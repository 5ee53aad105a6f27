"""TLS for raw handlers: their socket is wrapped in the thread or process that serves them."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.tls import TLS, reason_of
from daemons.serving.tls.context import is_truncation

if TYPE_CHECKING:
    from daemons.serving.connection import Connection
    from daemons.serving.guards.limits import Limits


@contextmanager
def over_tls(tls: TLS, request: socket.socket, connection: Connection, limits: Limits) -> Iterator[ssl.SSLSocket]:
    """Perform the TLS handshake on `request`, and yield a TLS socket for the handler.

    The handshake must finish by the deadline of `connection`, enforced by the daemon's thread.  If it fails, or the
    peer violates the protocol later, set the ending of `connection` and raise `ConnectionError`.  Errors of other
    connections of the handler are raised unchanged."""
    # Wrap a duplicate descriptor.  The daemon's thread cuts the connection through `request`, which must stay open when
    # the handler closes its socket; and SSLSocket.shutdown would disable the encryption first.
    duplicate = socket.socket(fileno=os.dup(request.fileno()))
    duplicate.settimeout(limits.handshake_timeout)
    with duplicate:
        try:
            # A truncated connection must be an error for the handler, not the end of its input.
            tls_socket = tls.context.wrap_socket(
                duplicate, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
        except OSError as error:
            raise _failed(connection, error) from error
    with tls_socket:
        try:
            tls_socket.do_handshake()
        except OSError as error:
            raise _failed(connection, error) from error
        tls_socket.settimeout(limits.idle_timeout)
        connection.expect(Ending.OVERLONG, limits.conversation_timeout)
        try:
            yield tls_socket
        except TimeoutError as error:
            if _is_of(error, tls_socket):
                connection.ending = connection.ending or Ending.IDLE
            raise
        except ssl.SSLError as error:
            if not _is_of(error, tls_socket):
                raise
            if connection.ending is None and is_truncation(error):
                connection.ending = Ending.CUT
            connection.reason = connection.reason or reason_of(error)
            raise ConnectionResetError(str(error)) from error
        _send_close_notify(tls_socket)


def _is_of(error: OSError, tls_socket: ssl.SSLSocket) -> bool:
    """Return whether `error` was raised by a method of `tls_socket`, not by another connection of the handler."""
    trace, owner = error.__traceback__, None
    while trace is not None:
        found = trace.tb_frame.f_locals.get("self")
        if isinstance(found, ssl.SSLSocket | ssl.SSLObject):
            owner = found
        trace = trace.tb_next
    return owner is tls_socket


def _failed(connection: Connection, error: OSError) -> ConnectionError:
    if connection.ending is None:
        connection.ending = Ending.HANDSHAKE
        connection.reason = reason_of(error)
    return ConnectionAbortedError(str(error))


def _send_close_notify(tls_socket: ssl.SSLSocket) -> None:
    """Send close_notify without waiting for the peer's."""
    with suppress(OSError, ValueError):
        tls_socket.setblocking(False)
        tls_socket.unwrap()
