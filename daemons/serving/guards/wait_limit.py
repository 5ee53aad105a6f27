"""Limit of threads that wait for a password check, set by the engine before the first check.

A module of its own, because `daemons.accounts` is imported only by daemons that have a users file.
"""

from __future__ import annotations

#: Half of the 16 threads of ``engine = pool``.
DEFAULT = 8


class WaitLimit:
    """The most threads that wait; 0 if the thread that asks serves every connection."""

    def __init__(self) -> None:
        self.threads = DEFAULT


#: The limit of this process.
PROCESS = WaitLimit()
