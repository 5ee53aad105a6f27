"""``engine = one``: one visitor after another, as a plain `socketserver.TCPServer` has it."""

from __future__ import annotations

from daemons.serving.engines.threads import Threads


class One(Threads):
    """The next visitor waits in the kernel's queue until this one has gone.

    The conversation has a thread of its own all the same: the accept loop stays free to keep its
    deadline and to hear a SIGTERM, which a plain TCPServer cannot do while it serves.
    """

    capacity = 1

    @property
    def max_connections(self) -> int:
        """One, whatever [limits] says."""
        return 1
