"""Metrics of one run of a daemon: the scoreboard shared by its processes and, with ``[metrics] listen``, the endpoint
for Prometheus."""

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

#: Backlog of the endpoint, listen(2).
BACKLOG = 32


class Metrics:
    """Scoreboard and endpoint.  Call `bind` before the daemon detaches, and `begin` after."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.listeners: list[socket.socket] = []
        self._scoreboard: Scoreboard | None = None
        self._slot: Slot | None = None

    def bind(self) -> dict[str, int]:
        """Bind the endpoint; return the files of its Unix sockets with their inodes.

        Raises `ConfigurationError`, `ListenError`."""
        addresses = self._settings.metrics.listen
        if not addresses:
            return {}
        from daemons.operating.metrics import prometheus  # imported only if used

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
        """Create the scoreboard, in the first process before it forks."""
        settings = self._settings
        path = path_of(settings)
        self._scoreboard = Scoreboard.create(path, {"name": settings.name, "engine": settings.daemon.engine})
        if self._scoreboard.copied:
            with suppress(OSError):
                settings.drop.hand_over(str(path))  # only its owner can read it

    def supervise(self, prefork: Prefork, listeners: Sequence[socket.socket] = ()) -> None:
        """Count in the process that supervises workers, with datagrams dropped at the shared `listeners`."""
        slot = self._claim("supervisor")
        self._count_drops(prefork, slot, listeners)
        assert self._scoreboard is not None
        prefork.turns = self._scoreboard.heartbeats
        prefork.on_tick += [slot.beat, lambda now: logs.report_drops()]
        prefork.on_orphaned.append(self._abandon)
        prefork.on_restart = slot.restart
        self._serve(prefork)

    def work(self, daemon: Daemon, *, alone: bool) -> None:
        """Count in a serving process; `alone` if it is the only one."""
        slot = self._claim("worker")
        slot.attach(daemon)
        if alone:
            self._count_drops(daemon, slot, [server.socket for server in daemon.servers])
            daemon.on_orphaned.append(self._abandon)
            self._serve(daemon)

    def leave(self) -> None:
        """Count the last dropped log lines at the end of a process."""
        logs.report_drops()
        if self._slot is not None:
            self._slot.beat(time.monotonic())

    def end(self) -> None:
        """Record that the daemon has stopped as requested."""
        if self._slot is not None:
            self._slot.stop()

    def close_listeners(self) -> None:
        """Close the endpoint, in a process that does not serve it."""
        for listener in self.listeners:
            listener.close()

    def close(self) -> None:
        """Close everything.  The file remains, for `daemons stats` after the end of the daemon."""
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
        """Count datagrams dropped by the kernel, in one process only: the kernel has one counter per socket."""
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
