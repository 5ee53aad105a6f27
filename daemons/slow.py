"""Ask a slow database, without delaying other peers.

[daemon]
service = slow
port = 1075
"""

import queue
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass

from daemons import DURATION, Lines, Reply, Service, setting


class Slow(Service):
    framing = Lines(limit=1000)

    @dataclass(frozen=True)
    class Options:
        """The section [slow]."""

        query_time: float = setting(DURATION, 2.0, "how long the database takes for a query")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or self.Options())

    def respond(self, line: bytes) -> Reply:
        if line == b"time":
            return time.strftime("%H:%M:%S").encode()
        try:
            return self.submit(self.query, line)
        except queue.Full:
            return b"too many queries; try again later"

    def query(self, line: bytes) -> bytes:
        """Return the number of characters of `line`, as the database counts them; called in another thread."""
        with closing(sqlite3.connect(":memory:")) as database:
            database.create_function("sleep", 1, time.sleep)
            text = line.decode("utf-8", "replace")
            _, length = database.execute("SELECT sleep(?), length(?)", (self.options.query_time, text)).fetchone()
        return b"%d characters" % length
