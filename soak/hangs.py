"""Workers that hang: one every five seconds, while newcomers ask.

A worker of `engine = loop` that makes no turn is replaced; no client is refused, and there are never more than twice as
many workers as configured.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from contextlib import suppress

from soak.lone import Lone
from soak.newcomers import visit
from tests.serving.peers import children_of

PROCESSES = 4
HANG_EVERY = 5.0

#: Seconds for a visit: a worker is replaced after 10 s and the time that it takes to start another.
PATIENCE = 30.0

INI = """[daemon]
service = hangs:Hangs
port = {port}
[limits]
drain_timeout = 2s
"""

MODULE = '''"""Echoes lines, and hangs at one of them."""
import time

from daemons import Lines, Service


class Hangs(Service):
    framing = Lines(limit=100)

    def respond(self, line):
        if line == b"hang":
            time.sleep(3600)
        return line
'''


def play(seconds: float, processes: int = PROCESSES) -> list[str]:
    """Let a worker hang every `HANG_EVERY` seconds; print a line, and return the broken promises."""
    most, hangs, over = 0, 0, threading.Event()
    with Lone(INI, "--engine", "loop", "--processes", str(processes), files={"hangs.py": MODULE}) as daemon:

        def ask() -> bool:
            with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as peer:
                peer.sendall(b"hello\n")
                return peer.recv(100) == b"hello\n"

        def disturb() -> None:
            nonlocal most, hangs
            begun, kept = time.monotonic(), []
            while not over.wait(0.2):
                most = max(most, 1 + len(children_of(daemon.pid)))
                if time.monotonic() >= begun + HANG_EVERY * hangs:
                    hangs += 1
                    with suppress(OSError):
                        peer = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE)
                        kept.append(peer)
                        peer.sendall(b"hang\n")
            for peer in kept:
                peer.close()

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            found = visit(ask, sys.maxsize, seconds, at_once=4, lost_after=PATIENCE)
        finally:
            over.set()
            thread.join()
        replaced = daemon.log.count("has made no turn for")
    print(f"soak hangs: {hangs} hangs, {replaced} workers replaced, at most {most} processes; {found}", flush=True)
    faults = []
    if refused := sum("refused" in text.lower() for text in found.lost):
        faults.append(f"{refused} newcomers were refused")
    if len(found.times) < 0.99 * found.asked:
        faults.append(f"{len(found.lost)} of {found.asked} newcomers were not answered: {found.lost[0]}")
    if most > 2 * processes + 1:
        faults.append(f"{most} processes, more than {2 * processes + 1}")
    return faults


def run(seconds: float, seed: int) -> int:
    """Play for `seconds`.  Nothing is random: no seed."""
    print(f"soak hangs: {PROCESSES} processes, {seconds:g} s", flush=True)
    faults = play(seconds)
    for fault in faults:
        print(f"FAULT  {fault}")
    print(f"soak hangs: {f'{len(faults)} faults' if faults else 'no faults'}")
    return 1 if faults else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    sys.exit(run(60.0, 0))
