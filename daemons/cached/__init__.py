"""Cache of values by key, which speaks memcached's text protocol.

[daemon]
service = cached
port = 11211
engine = loop

[cached]
memory = 64MiB
item = 1MiB
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from daemons import SIZE, Reply, Service, setting
from daemons.cached.commands import Commands
from daemons.framings.memcached import Memcached


class Cached(Service):
    shares = True
    questions = (b"version\r\n",)

    @dataclass(frozen=True)
    class Options:
        """The section [cached]."""

        memory: int = setting(SIZE, 64 * 1024**2, "Memory for all items; the least recently used are removed.")
        item: int = setting(SIZE, 1024**2, "Maximum size of a value.")

    def __init__(self, options: Options | None = None) -> None:
        options = options or self.Options()
        self.framing = Memcached(item=options.item)
        super().__init__(options)
        self._lock = threading.Lock()
        self._respond = Commands(options.memory, options.item).respond

    def respond(self, message: bytes) -> Reply:
        with self._lock:
            return self._respond(message)
