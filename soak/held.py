"""One memory budget: half messages, unread replies and mute TLS clients exceed it many times over.

The memory of the daemon (PSS) must stay below `[limits] held` and 32 MiB, and newcomers must be answered.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import threading
from contextlib import ExitStack

from soak.crowd import Crowd
from soak.lone import Lone
from soak.newcomers import LOST_AFTER, visit

ENGINES = ("loop", "pool")

#: The connections of each crowd, 10,000 together.
CROWDS = {"large-half": 4000, "medium-half": 3000, "unread-echo": 1500}
MUTE_TLS = 1500

#: Replacements a second for closed connections, in each crowd.
RATE = 20.0

#: MiB.
BUDGET, MARGIN = 256, 32

NEWCOMERS = 500

#: Allowed p99 in milliseconds.
BAR = 150.0

GATHER = 90.0

INI = f"""[daemon]
service = held:Echo
listen = tcp://127.0.0.1:{{port}} tls://127.0.0.1:{{second_port}}
[tls]
certificate = run/tls/server.pem
key = run/tls/server.key
[limits]
max_connections = 20000
held = {BUDGET}MiB
message_timeout = 5m
write_timeout = 5m
handshake_timeout = 5m
"""

MODULE = '''"""Echoes messages after their length."""
from daemons import LengthPrefixed, Service


class Echo(Service):
    framing = LengthPrefixed(limit=1024**2)

    def respond(self, message):
        return message
'''

MESSAGE = struct.pack("!I", 5) + b"hello"


class Highest:
    """The highest PSS of a daemon, measured until the end of the context."""

    def __init__(self, daemon: Lone) -> None:
        self._daemon, self._over = daemon, threading.Event()
        self.mib = 0.0
        self._thread = threading.Thread(target=self._measure)

    def _measure(self) -> None:
        while not self._over.wait(0.25):
            self.mib = max(self.mib, self._daemon.pss())

    def __enter__(self) -> Highest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def play(engine: str, seconds: float, share: float = 1.0) -> list[str]:
    """Play one engine, with this share of the connections; print a line, and return the broken promises."""
    with Lone(INI, "--engine", engine, files={"held.py": MODULE}) as daemon, ExitStack() as stack:

        def ask() -> bool:
            with socket.create_connection(("127.0.0.1", daemon.port), LOST_AFTER) as peer:
                peer.sendall(MESSAGE)
                return peer.recv(100) == MESSAGE

        before = visit(ask, NEWCOMERS // 5, seconds / 2)
        highest = stack.enter_context(Highest(daemon))
        kinds = [(kind, daemon.port, many) for kind, many in CROWDS.items()]
        kinds.append(("mute", daemon.second_port, MUTE_TLS))
        crowds = [stack.enter_context(Crowd(kind, port, int(many * share), RATE)) for kind, port, many in kinds]
        gathered = all(crowd.wait(GATHER) for crowd in crowds)
        found = visit(ask, NEWCOMERS, seconds)
    print(
        f"soak held: {engine:8} PSS at most {highest.mib:.0f} MiB; {found}; "
        f"before p99 {before.percentile(0.99):.0f} ms",
        flush=True,
    )
    faults = []
    if not gathered:
        faults.append(f"{engine}: the crowds were not complete within {GATHER:g} s")
    if highest.mib > BUDGET + MARGIN:
        faults.append(f"{engine}: PSS of {highest.mib:.0f} MiB, above {BUDGET} + {MARGIN} MiB")
    if found.lost:
        faults.append(f"{engine}: {len(found.lost)} of {found.asked} newcomers were not answered: {found.lost[0]}")
    elif found.percentile(0.99) > max(BAR, 5 * before.percentile(0.99)):
        faults.append(f"{engine}: p99 is {found.percentile(0.99):.0f} ms")
    return faults


def run(seconds: float, seed: int) -> int:
    """Play each engine.  Nothing is random: no seed."""
    print(f"soak held: {sum(CROWDS.values()) + MUTE_TLS} connections, a budget of {BUDGET} MiB", flush=True)
    faults = [fault for engine in ENGINES for fault in play(engine, seconds / len(ENGINES))]
    for fault in faults:
        print(f"FAULT  {fault}")
    print(f"soak held: {f'{len(faults)} faults' if faults else 'no faults'}")
    return 1 if faults else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    sys.exit(run(120.0, 0))
