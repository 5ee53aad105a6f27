"""``engine = one``: one connection at a time, like a plain `socketserver.TCPServer`."""

from __future__ import annotations

from daemons.serving.engines.threads import Threads


class One(Threads):
    """Serve one connection at a time; others wait in the kernel's queue.

    Unlike in TCPServer the conversation has its own thread, so that the accept loop can enforce its deadline and handle
    SIGTERM.
    """

    capacity = 1
    #: Not even a datagram is answered beside a connection.
    spare = 0

    @property
    def max_connections(self) -> int:
        """Always 1, regardless of [limits]."""
        return 1
