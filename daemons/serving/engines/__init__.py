"""Engines: who runs a conversation, and when.  One file each, one word each in ``engine =``.

Every engine is a socketserver mixin that overrides `process_request`, to be put in front of a server:
``class MyServer(Threads, StreamServer)``.
"""

from daemons.serving.engines.forks import Forks
from daemons.serving.engines.loop import Loop
from daemons.serving.engines.one import One
from daemons.serving.engines.pool import Pool
from daemons.serving.engines.threads import Threads
from daemons.serving.server import StreamServer

#: ``engine =`` in an ini → the mixin.
ENGINES: dict[str, type] = {"one": One, "threads": Threads, "forks": Forks, "pool": Pool, "loop": Loop}


def server_class(engine: str) -> type[StreamServer]:
    """The stream server of an engine, by the engine's word."""
    mixin = ENGINES[engine]
    return type(f"{mixin.__name__}StreamServer", (mixin, StreamServer), {})


__all__ = ["ENGINES", "Forks", "Loop", "One", "Pool", "Threads", "server_class"]
