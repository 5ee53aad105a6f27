"""A daemon between the binding of its listeners and its end."""

from __future__ import annotations

import dataclasses
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemons.operating.config.sections import Settings
from daemons.operating.metrics.run import Metrics
from daemons.serving.guards.limits import Limits
from daemons.serving.listening.address import Address

if TYPE_CHECKING:
    from daemons.serving.conversation.tls import TLS


@dataclass(frozen=True)
class Bound:
    """A daemon that has its ports and is about to serve."""

    settings: Settings
    limits: Limits
    metrics: Metrics
    #: Where each listener came to be, port 0 resolved.
    listeners: list[tuple[Address, socket.socket]]
    #: What tls:// listeners share; None where there are none.
    tls: TLS | None = None
    #: The files of Unix sockets, with their inodes: by now the path may be somebody else's.
    files: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def ready_line(self) -> str:
        """``launcelot ready tcp://127.0.0.1:1060 engine=threads processes=1 pid=4242``"""
        addresses = " ".join(str(address) for address, _ in self.listeners)
        settings = self.settings
        return (
            f"{settings.name} ready {addresses} engine={settings.daemon.engine} "
            f"processes={settings.processes} pid={os.getpid()}"
        )

    @property
    def sockets(self) -> list[socket.socket]:
        """All that were bound."""
        return [*(listener for _, listener in self.listeners), *self.metrics.listeners]

    def stop_listening(self) -> None:
        """Close this process's copies of the listeners."""
        for _, listener in self.listeners:
            listener.close()

    def close_listeners(self) -> None:
        """In a process that is not to serve."""
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
