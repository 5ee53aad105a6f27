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

from dataclasses import dataclass

from daemons import SIZE, Framing, Reply, Service, setting
from daemons.cached.commands import Commands
from daemons.framings.memcached import Memcached

#: Bytes of an item beside its value, at most: its key twice, the rest of its header, and `store.OVERHEAD`.
LARGEST_OVERHEAD = 1024


class Cached(Service):
    stream_protocol = "memcached's text protocol"
    shares = True
    questions = (b"version\r\n",)

    @dataclass(frozen=True)
    class Options:
        """The section [cached]."""

        memory: int = setting(SIZE, 64 * 1024**2, "Memory for all items; the least recently used are removed.")
        item: int = setting(SIZE, 1024**2, "Maximum size of a value.")

    framing: Framing = Memcached(item=Options.item)

    def __init__(self, options: Options | None = None) -> None:
        options = options or self.Options()
        if options.item + LARGEST_OVERHEAD > options.memory:
            raise TypeError("Cached: item is larger than memory; write for example memory = 64MiB and item = 1MiB")
        self.framing = Memcached(item=options.item)
        super().__init__(options)
        self._commands = Commands(options.memory, options.item)
        # Directly, which saves a call for each message.
        self.respond = self._commands.respond  # type: ignore[method-assign]

    def respond(self, message: bytes) -> Reply:
        return self._commands.respond(message)

    @classmethod
    def question(cls, word: bytes) -> bytes:
        """Return the command in an argument, to which the line end is added."""
        return word if word.endswith(b"\n") else word + b"\r\n"
