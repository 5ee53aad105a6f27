"""Maximum number of threads that wait for a password check; set by the server, read by `daemons.accounts`.

A separate module: a server can set the limit without importing `daemons.accounts`, which only daemons with a users file
need.
"""

from __future__ import annotations

#: Half of the 16 threads of ``engine = pool``.
DEFAULT = 8


class WaitLimit:
    """Maximum number of threads that wait; 0 if the calling thread serves all connections."""

    def __init__(self) -> None:
        self.threads = DEFAULT


#: The limit of this process.
PROCESS = WaitLimit()
