"""Request handler for RPyC: one guarded connection per peer, `daemons.rpc.rpyc.netrefs`."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from socketserver import BaseRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

from daemons.rpc.rpyc.frames import Frames, Oversize, Refused
from daemons.rpc.rpyc.netrefs import GuardedConnection
from daemons.serving.connection import show_peer
from daemons.serving.conversation.endings import Ending
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.stream import StreamServer

log = SafeLogger(__name__)

#: Seconds to wait for the peer to close the connection after the last message.
LINGER = 2.0


class NetrefHandler(BaseRequestHandler):
    """Raw handler for RPyC connections, for every engine but ``loop``.  Subclasses set `offers` to their service."""

    #: The `rpyc.Service` class, instantiated for each connection.
    offers: ClassVar[type[Any]]
    #: Maximum bytes of a message.
    limit: ClassVar[int] = 64 * 1024

    request: socket.socket
    server: StreamServer

    def handle(self) -> None:
        limits = self.server.limits
        frames = Frames(
            self.request,
            limit=self.limit,
            idle=limits.idle_timeout,
            message=limits.message_timeout,
            write=limits.write_timeout,
        )
        name = show_peer(self.client_address) if isinstance(self.client_address, tuple) else "unix"
        service = self.offers()
        conn = GuardedConnection(service, frames, name)
        service.on_connect(conn)
        try:
            while not conn.closed:
                conn.serve(None)
        except EOFError:
            pass
        except Refused as error:
            log.warning("%s: %s", name, error)
        except TimeoutError as error:
            if error is not frames.over:
                raise  # of another connection
        finally:
            conn.close()
        if isinstance(frames.over, Oversize):
            self._linger()
        elif isinstance(frames.over, TimeoutError):
            # Over TLS, the ending is set already, and the key is another socket.
            if (connection := self.server.connections.get(self.request)) is not None:
                connection.ending = connection.ending or Ending.IDLE
        elif isinstance(frames.over, OSError):
            raise frames.over

    def _linger(self) -> None:
        """Discard input until the peer closes the connection: closing it with unread input would reset it, and the peer
        might lose the error message."""
        until = time.monotonic() + LINGER
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_WR)
            while (left := until - time.monotonic()) > 0:
                self.request.settimeout(left)
                if not self.request.recv(64 * 1024):
                    break
