"""Limit of connections by the number of file descriptors."""

from __future__ import annotations

import logging
import resource
from contextlib import suppress

from daemons.operating.config.sections import Settings
from daemons.serving.engines import stream_server

log = logging.getLogger(__name__)

#: Descriptors reserved for standard streams, listeners, selectors, wakers, and files of the service.
RESERVED = 64


def connection_limit(settings: Settings) -> int:
    """Return the maximum number of connections of one process: its share of max_connections, or fewer if it has too few
    file descriptors.

    First raise the soft limit of file descriptors to the hard limit, setrlimit(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    maximum = settings.limits.max_connections or stream_server(settings.daemon.engine).capacity
    share = -(-maximum // settings.processes)
    room = share if soft == resource.RLIM_INFINITY else soft - RESERVED
    if share > room:
        log.warning(
            "max_connections reduced to %d from %d: the limit of file descriptors is %d", max(1, room), share, soft
        )
    return max(1, min(share, room))
