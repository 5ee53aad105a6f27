"""How many connections a process has descriptors for."""

from __future__ import annotations

import logging
import resource
from contextlib import suppress

from daemons.operating.config.sections import Settings
from daemons.serving.engines import stream_server

log = logging.getLogger(__name__)

#: Descriptors kept back from connections: standard streams, listeners, selectors, wakers, a service's files.
RESERVED = 64


def affordable(settings: Settings) -> int:
    """max_connections of one process: its share, and no more than it has descriptors for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    most = settings.limits.max_connections or stream_server(settings.daemon.engine).capacity
    share = -(-most // settings.processes)
    room = share if soft == resource.RLIM_INFINITY else soft - RESERVED
    if share > room:
        log.warning("max_connections = %d, not %d: the limit of descriptors is %d", max(1, room), share, soft)
    return max(1, min(share, room))
