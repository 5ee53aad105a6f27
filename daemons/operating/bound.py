"""Listeners and shared state of a daemon from bind to exit."""

from __future__ import annotations

import dataclasses
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemons.operating.config.sections import Settings
from daemons.operating.loading.targets import RequestHandlers, target_of
from daemons.operating.metrics.run import Metrics
from daemons.serving.guards.limits import Limits
from daemons.serving.listening.address import Address

if TYPE_CHECKING:
    from daemons.serving.conversation.tls import TLS


@dataclass(frozen=True)
class Bound:
    """A daemon whose listeners are bound."""

    settings: Settings
    limits: Limits
    metrics: Metrics
    #: Each listener with its address; port 0 is resolved.
    listeners: list[tuple[Address, socket.socket]]
    #: Shared by the tls:// listeners; None without such.
    tls: TLS | None = None
    #: The files of Unix sockets → inode, since another process may have replaced the file.
    files: dict[str, int] = dataclasses.field(default_factory=dict)
    #: Made before the bind; None if the serving process is another one, or will drop privileges.
    handlers: RequestHandlers | None = None
    #: The process that made `handlers`.
    made_by: int = dataclasses.field(default_factory=os.getpid)

    @property
    def ready_line(self) -> str:
        """``launcelot ready tcp://127.0.0.1:1060 engine=threads processes=1 pid=4242``"""
        addresses = " ".join(str(address) for address, _ in self.listeners)
        settings = self.settings
        return (
            f"{settings.name} ready {addresses} engine={settings.daemon.engine} "
            f"processes={settings.processes} pid={os.getpid()}"
        )

    def request_handlers(self) -> RequestHandlers:
        """Return the request handlers for this process.  They are made again after a fork, which ends threads of the
        service, and after privileges were dropped, so that no open file is left of root."""
        if self.handlers is not None and self.made_by == os.getpid():
            return self.handlers
        return target_of(self.settings).request_handlers()

    @property
    def sockets(self) -> list[socket.socket]:
        """All bound sockets, those of the metrics included."""
        return [*(listener for _, listener in self.listeners), *self.metrics.listeners]

    def stop_listening(self) -> None:
        """Close this process's copies of the listeners."""
        for _, listener in self.listeners:
            listener.close()

    def close_listeners(self) -> None:
        """Close all listeners, in a process that does not serve."""
        self.stop_listening()
        self.metrics.close_listeners()

    def close(self) -> None:
        """Close the listeners; remove the files of Unix sockets."""
        self.close_listeners()
        self.metrics.close()
        for path, inode in self.files.items():
            with suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
