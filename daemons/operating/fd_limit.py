"""Limit of connections by the number of file descriptors."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress

from daemons.operating.config.sections import Settings
from daemons.serving.engines import stream_server

log = logging.getLogger(__name__)

#: Descriptors reserved for standard streams, listeners, selectors, wakers, and files of the service; at most half of
#: the limit.
RESERVED = 64


def affordable(settings: Settings) -> int:
    """Return max_connections of one process: its share, limited by its descriptors.  Raises the soft limit to the hard
    one, setrlimit(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    share, room = _share(settings), _room(soft)
    if share > room:
        log.warning("max_connections reduced to %d from %d: the limit of file descriptors is %d", room, share, soft)
    return min(share, room)


def note(daemons: Sequence[Settings]) -> str | None:
    """Return a note about the daemons whose max_connections exceeds the limit of descriptors; None without any."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = _room(hard)
    reduced = [settings.name for settings in daemons if _share(settings) > room]
    if not reduced:
        return None
    return (
        f"the limit of {hard} file descriptors (ulimit -n) leaves {room} connections for each process; "
        f"max_connections is reduced to it for {', '.join(reduced)}"
    )


def _share(settings: Settings) -> int:
    """Return max_connections of one process, regardless of descriptors."""
    maximum = settings.limits.max_connections or stream_server(settings.daemon.engine).capacity
    return -(-maximum // settings.processes)


def _room(limit: int) -> int:
    """Return the number of connections for which `limit` descriptors are enough, at least 1."""
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(1, limit - min(RESERVED, limit // 2))
