"""An asyncio Protocol on the stock loop or on uvloop: `python -m benchmarks.peers.protocol asyncio|uvloop`.

The fastest thing asyncio has: no streams, no tasks, no coroutine per connection. It has no limits, deadlines,
counters or log either.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

from benchmarks.peers.grail import BACKLOG, announce, answer


class Launcelot(asyncio.Protocol):
    """One visitor."""

    __slots__ = ("pending", "write")
    write: Callable[[bytes], None]

    def __init__(self) -> None:
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast(asyncio.Transport, transport).write  # both loops have set TCP_NODELAY already

    def data_received(self, data: bytes) -> None:
        answers, self.pending = answer(self.pending + data if self.pending else data)
        if answers:
            self.write(answers)


async def serve(name: str) -> None:
    """Serves until SIGTERM."""
    server = await asyncio.get_running_loop().create_server(Launcelot, "127.0.0.1", 0, backlog=BACKLOG)
    announce(name, server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main() -> None:
    """Picks the loop."""
    name = sys.argv[1]
    if name == "uvloop":
        import uvloop

        uvloop.run(serve(name))
    else:
        asyncio.run(serve(name))


if __name__ == "__main__":
    main()
