"""The metrics of one run of a daemon: the scoreboard that its processes share, and, where the ini says
``[metrics] listen``, the endpoint from which Prometheus takes what it tells."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from daemons.operating.logging import logs
from daemons.operating.metrics.scoreboard import Scoreboard
from daemons.operating.metrics.slot import Slot
from daemons.operating.metrics.stats import path_of
from daemons.serving.listening.listen import listen, name_of
from daemons.serving.receive_buffer import DropCounter
from daemons.settings.complaints import ConfigurationError

if TYPE_CHECKING:
    from daemons.operating.config.sections import Settings
    from daemons.operating.metrics.prometheus import Leader
    from daemons.serving.daemon import Daemon
    from daemons.serving.engines.prefork import Prefork

log = logging.getLogger(__name__)

#: Connections to the endpoint that the kernel holds.
BACKLOG = 32


class Metrics:
    """In the order of its methods: bound before the daemon detaches, begun where it serves."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.listeners: list[socket.socket] = []
        self._scoreboard: Scoreboard | None = None
        self._slot: Slot | None = None

    def bind(self) -> dict[str, int]:
        """Bind the endpoint.  Returns the files of its Unix sockets, with their inodes.  Raises
        `ConfigurationError`, `ListenError`."""
        addresses = self._settings.metrics.listen
        if not addresses:
            return {}
        from daemons.operating.metrics import prometheus  # most do without it

        if complaints := prometheus.complaints(self._settings):
            raise ConfigurationError(complaints)
        files = {}
        for address in addresses:
            for listener in listen(address, BACKLOG):
                self.listeners.append(listener)
            if address.scheme == "unix":
                files[address.path] = os.stat(address.path).st_ino
                self._settings.drop.hand_over(address.path)
        return files

    def begin(self) -> None:
        """Lay out the scoreboard; in the process that was started, before it forks."""
        settings = self._settings
        path = path_of(settings)
        self._scoreboard = Scoreboard.create(path, {"name": settings.name, "engine": settings.daemon.engine})
        if self._scoreboard.copied:
            with suppress(OSError):
                settings.drop.hand_over(str(path))  # its owner alone can read it

    def supervise(self, prefork: Prefork, listeners: Sequence[socket.socket] = ()) -> None:
        """Count for the process that supervises workers, and datagrams dropped at the `listeners` that they share."""
        slot = self._claim("supervisor")
        self._count_drops(prefork, slot, listeners)
        prefork.on_tick += [slot.beat, lambda now: logs.report_drops()]
        prefork.on_orphaned.append(self._abandon)
        prefork.table.on_restart = slot.restart
        self._serve(prefork)

    def work(self, daemon: Daemon, *, alone: bool) -> None:
        """Count for a process that serves; `alone`: there is no other."""
        slot = self._claim("worker")
        slot.attach(daemon)
        if alone:
            self._count_drops(daemon, slot, [server.socket for server in daemon.servers])
            daemon.on_orphaned.append(self._abandon)
            self._serve(daemon)

    def leave(self) -> None:
        """Count, in a process that is about to end, the last lines that it dropped."""
        logs.report_drops()
        if self._slot is not None:
            self._slot.beat(time.monotonic())

    def end(self) -> None:
        """The daemon has ended as it was asked to."""
        if self._slot is not None:
            self._slot.stop()

    def close_listeners(self) -> None:
        """In a process that is not to serve."""
        for listener in self.listeners:
            listener.close()

    def close(self) -> None:
        """Let go of everything; the file stays, to tell of a daemon that has ended."""
        self.close_listeners()
        if self._slot is not None:
            self._slot.close()
        if self._scoreboard is not None:
            self._scoreboard.close()

    def _abandon(self) -> None:
        if self._scoreboard is not None:
            self._scoreboard.abandon(path_of(self._settings))

    def _claim(self, role: str) -> Slot:
        assert self._scoreboard is not None
        self._slot = self._scoreboard.claim(role)
        return self._slot

    def _count_drops(self, leader: Daemon | Prefork, slot: Slot, listeners: Sequence[socket.socket]) -> None:
        """Have one process count what the kernel drops: its own count is one for all that share a socket."""
        if any(listener.type == socket.SOCK_DGRAM for listener in listeners):
            drops = DropCounter(listeners)
            leader.on_tick.append(lambda now: slot.drop_datagrams(drops.take()))

    def _serve(self, leader: Leader) -> None:
        if self.listeners:
            from daemons.operating.metrics.prometheus import Endpoint

            assert self._scoreboard is not None
            Endpoint(self._scoreboard, self.listeners).join(leader)
            for listener in self.listeners:
                scheme = "unix" if listener.family == socket.AF_UNIX else "tcp"
                log.info("metrics for Prometheus at %s, path /metrics", name_of(listener, scheme))
