"""``engine = threads``: one thread per connection, like `socketserver.ThreadingMixIn`."""

from __future__ import annotations

import socketserver
from typing import Any

from daemons.serving.guards.accept_backoff import NoResourcesError


class Threads(socketserver.ThreadingMixIn):
    """One thread per connection, in one process.

    A thread that waits for its peer or a disk does not delay the others.  A thread that computes does, because of the
    global interpreter lock."""

    #: ThreadingMixIn waits in server_close for every thread, even of an idle connection.  Here the daemon drains first,
    #: and threads that are left then do not keep the process from ending.
    daemon_threads = True
    block_on_close = False

    #: A thread costs a stack, a kernel task and contention for the interpreter lock; beyond about a thousand, most of
    #: the time is spent on switching.
    capacity = 1000

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread that serves the connection.  Raises `NoResourcesError`."""
        try:
            super().process_request(request, client_address)
        except (RuntimeError, MemoryError) as error:  # pthread_create(3): EAGAIN
            raise NoResourcesError(f"no thread could be started ({error})") from error
