"""Limit of threads that wait for a password check, set by the engine before the first check.

This is a separate module, because only daemons with a users file import `daemons.accounts`.
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
