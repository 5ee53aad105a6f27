"""System calls that fail: no accepted connection is dropped unanswered, whichever call fails.

For each engine and each kind of call (`soak.faults`) a daemon runs in which every second call of that kind fails, from
the first on.  Clients make requests until 200 calls have failed, or the time is over.  Then each request must have been
answered, each must have an access line, and no descriptor may have leaked.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from daemons.launcelot import ANSWERS
from daemons.serving.engines import ENGINES
from soak.place import PlaceError, free_ports, until

#: The kinds of `soak.faults`, and the engines that make such calls while they serve.
KINDS = {
    "accept": tuple(ENGINES),
    "epoll": tuple(ENGINES),
    "thread": ("one", "threads", "pool"),
    "fork": ("forks",),
    "pidfd": ("forks",),
    "mmap": ("forks",),
    "fcntl": ("forks",),
}

CASES = [(kind, engine) for kind, engines in KINDS.items() for engine in engines]

#: Number of failing calls of a case: with every second one, the Nth call fails for N = 1, 3, 5, … 399.
FAILURES = 200

#: Connections at the same time.
AT_ONCE = 4

#: Seconds for a daemon to start and to stop, and for a reply.
PATIENCE = 30.0

ROOT = Path(__file__).parents[1]

QUESTION, ANSWER = next((question, answer) for question, answer in ANSWERS.items())


@dataclass
class Outcome:
    """What happened in one case."""

    requests: int = 0
    answered: int = 0
    #: Access lines of answered requests.
    lines: int = 0
    #: Open descriptors after the first request and after the last.
    before: int = 0
    after: int = 0

    @property
    def fault(self) -> str:
        """The first broken promise; empty if there is none."""
        if self.answered < self.requests:
            return f"{self.requests - self.answered} of {self.requests} requests were not answered"
        if self.lines != self.requests:
            return f"{self.requests} requests, but {self.lines} access lines"
        if self.after > self.before:
            return f"{self.after} open descriptors, after {self.before} before"
        return ""


def play(kind: str, engine: str, seconds: float) -> Outcome:
    """Run one case for at most `seconds`.  Raise `PlaceError` if the daemon does not start."""
    with tempfile.TemporaryDirectory(prefix="camelot-failures-") as name:
        folder = Path(name)
        port = free_ports(1)[0]
        (folder / "conf").mkdir()
        (folder / "conf" / "launcelot.ini").write_text(f"[daemon]\nservice = launcelot\nport = {port}\n", "utf-8")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "soak.faults", kind, "1", "2", "run", "launcelot", "--engine", engine],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            return _converse(process, port, folder / "log", engine, seconds)
        finally:
            process.kill()
            process.wait()


def _converse(process: subprocess.Popen[bytes], port: int, log: Path, engine: str, seconds: float) -> Outcome:
    found = Outcome()
    at_once = 1 if engine == "one" else AT_ONCE
    if not until(lambda: b" ready " in log.read_bytes(), PATIENCE):
        raise PlaceError(f"{engine}: the daemon did not start; its log: {log.read_text()[-2000:]}")

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{process.pid}/fd"))

    def lines() -> int:
        return len(re.findall(rb" done messages=1 ", log.read_bytes()))

    deadline = monotonic() + seconds
    while found.requests < 2 * FAILURES and monotonic() < deadline:
        peers: list[socket.socket] = []
        for _ in range(at_once if found.before else 1):
            found.requests += 1
            try:
                peers.append(socket.create_connection(("127.0.0.1", port), PATIENCE))
                peers[-1].sendall(QUESTION)
            except OSError:
                continue
        for peer in peers:
            with peer:
                try:
                    found.answered += peer.recv(1000) == ANSWER
                except OSError:
                    continue
        if not found.before:
            until(lambda: lines() == found.requests, PATIENCE)
            found.before = descriptors()
    until(lambda: lines() >= found.requests and descriptors() <= found.before, PATIENCE)
    found.after = descriptors()
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    found.lines = lines()
    return found


def run(seconds: float, seed: int) -> int:
    """Run all cases, `seconds` together; return 0 if no promise was broken, else 1.  Nothing is random: no seed."""
    print(f"soak failures: {len(CASES)} cases, {seconds:g} s", flush=True)
    faults = 0
    for kind, engine in CASES:
        outcome = play(kind, engine, seconds / len(CASES))
        print(f"soak failures: {kind:8} {engine:8} {outcome.answered:6} answered of {outcome.requests}", flush=True)
        if outcome.fault:
            print(f"FAULT  {kind}, {engine}: {outcome.fault}", flush=True)
            faults += 1
    print(f"soak failures: {f'{faults} faults' if faults else 'no faults'}")
    return 1 if faults else 0
