"""``engine = threads``: a thread for each conversation, as `socketserver.ThreadingMixIn` has it."""

from __future__ import annotations

import socketserver


class Threads(socketserver.ThreadingMixIn):
    """Many at once, sharing memory.  What a thread waits for, its peer or a disk, holds up nobody else;
    what it computes does, because one interpreter lock serves them all."""

    #: The stock class waits, in server_close, for every thread: for idle visitors, for ever.  Here the
    #: daemon drains the conversations first, so that what is left by then is to be left behind.
    daemon_threads = True
    block_on_close = False

    #: A thread costs its stack, a kernel task and a share of the interpreter lock; beyond about a
    #: thousand, the switching costs more than the serving.
    capacity = 1000
