"""The end of the parent process, after which its daemon drains and ends."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from daemons.serving.listening.listen import share
from daemons.serving.safe_call import call_safely
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.interfaces import Leader

log = SafeLogger(__name__)

#: Seconds to drain after the parent process has died.  Short, because a new parent process waits to bind the port.
ORPHAN_DRAIN = 1.0

#: Seconds for which an orphaned worker continues to accept.  Meanwhile the parent is restarted and binds the same port,
#: so that no connection is refused in between.
ORPHAN_ACCEPT = 1.5


class ParentWatch:
    """Stop a daemon when its parent process, `Daemon.parent`, has ended."""

    def __init__(self, daemon: Leader) -> None:
        self._daemon = daemon

    def watch_lifeline(self, lifeline: int) -> None:
        """Stop at the end of input of the pipe `lifeline`: the parent, which had the other end, has ended.

        If another process can listen on the same ports, continue to accept for `ORPHAN_ACCEPT` seconds first."""
        self._daemon.watch(lifeline, partial(self._lose_lifeline, lifeline))

    def check(self) -> None:
        """At a tick: stop if the process has another parent than at first."""
        daemon = self._daemon
        if daemon.parent is not None and os.getppid() != daemon.parent:
            log.warning("parent process %d has ended; stopping", daemon.parent)
            daemon.parent = None
            daemon.stop(ORPHAN_DRAIN)
            for orphaned in daemon.on_orphaned:
                call_safely(orphaned)

    def _lose_lifeline(self, lifeline: int) -> None:
        daemon = self._daemon
        daemon.forget(lifeline)
        shared = [share(server.socket) for server in daemon.servers]
        parent, daemon.parent = daemon.parent, None
        log.warning("parent process %s has ended; stopping", parent)
        if all(shared) and daemon.accepts:
            daemon.on_tick.append(partial(self._leave, time.monotonic() + ORPHAN_ACCEPT))
        else:
            daemon.stop(ORPHAN_DRAIN)

    def _leave(self, when: float, now: float) -> None:
        """At a tick: stop once the time to accept for the next daemon (`ORPHAN_ACCEPT`) has passed."""
        if now >= when:
            self._daemon.stop(ORPHAN_DRAIN)
