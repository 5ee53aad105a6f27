"""Clients in threads, at a limited rate, and the results of their visits."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence

from daemons.clients.net.dial import NetworkError
from soak.place import Place
from soak.talking import Parted, Visit, Wrong
from soak.web import Away

HONEST_CLIENTS, HOSTILE_CLIENTS = 10, 24

#: Faults that are recorded; further ones are only counted.
MOST_FAULTS = 100

#: Errors that a client may get while a daemon restarts.
TROUBLES = (OSError, EOFError, NetworkError, http.client.HTTPException, Away)


class Record:
    """Results of visits, and the times at which each daemon was disturbed on purpose."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._lock = threading.Lock()
        self._disturbed: dict[str, list[tuple[float, float]]] = {}
        self.honest: Counter[str] = Counter()
        self.hostile: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        #: Seconds of each visit with the right replies.
        self.times: list[float] = []
        self.faults: Counter[str] = Counter()

    @property
    def slowest(self) -> float:
        """Seconds of the longest visit."""
        return max(self.times, default=0.0)

    def begin_disturbance(self, name: str) -> float:
        """Excuse errors of a daemon from now on, until `end_disturbance`."""
        now = time.monotonic()
        with self._lock:
            self._disturbed.setdefault(name, []).append((now, float("inf")))
        return now

    def end_disturbance(self, name: str, began: float) -> None:
        """End a disturbance."""
        now = time.monotonic()
        with self._lock:
            self._disturbed[name] = [(a, now if a == began else b) for a, b in self._disturbed[name]]

    def undisturbed(self, visit: Visit, began: float) -> bool:
        """Return whether neither the daemon nor its upstream server has been disturbed since `began`."""
        names = (visit.daemon, "webapp") if visit.daemon == "front" else (visit.daemon,)
        with self._lock:
            return not any(end >= began for name in names for _, end in self._disturbed.get(name, []))

    def fault(self, text: str) -> None:
        """Record a fault; repeated texts are counted."""
        with self._lock:
            if text in self.faults or len(self.faults) < MOST_FAULTS:
                self.faults[text] += 1

    def met(self, visit: Visit, began: float, error: Exception | None) -> None:
        """Record the result of an honest visit."""
        took = time.monotonic() - began
        with self._lock:
            self.honest[visit.daemon] += 1
        if error is None or isinstance(error, Parted):
            with self._lock:
                self.times.append(took)
        if isinstance(error, (*TROUBLES, Parted)) or (error is None and took > self._deadline):
            if not self.undisturbed(visit, began):
                with self._lock:
                    self.excused[visit.daemon] += 1
            elif error is None:
                self.fault(f"{visit}: took longer than {self._deadline:g} s")
            else:
                self.fault(f"{visit}: {_description(error)}")
        elif isinstance(error, Wrong):
            self.fault(f"{visit}: wrong: {error}")
        elif error is not None:
            self.fault(f"{visit}: {_description(error)}")


def _description(error: Exception) -> str:
    return "closed between two messages" if isinstance(error, Parted) else f"{type(error).__name__}: {error}"


class Load:
    """Threads that visit daemons until `stop`."""

    def __init__(self, place: Place, record: Record, honest: Sequence[Visit], hostile: Sequence[Visit]) -> None:
        self._place = place
        self._record = record
        self._honest, self._hostile = honest, hostile
        self._stopping = threading.Event()
        self._gates = (threading.Lock(), threading.Lock())
        self._next = [0.0, 0.0]
        self._threads: list[threading.Thread] = []
        #: Factor of the rate, reduced if the load takes too much of the machine.
        self.pace = 1.0

    def start(self, rng: random.Random, rates: tuple[float, float]) -> None:
        """Start regular and hostile clients, at most so many per second."""
        self._stopping.clear()
        for place, (visits, count) in enumerate(((self._honest, HONEST_CLIENTS), (self._hostile, HOSTILE_CLIENTS))):
            for _ in range(count if visits else 0):
                own = random.Random(rng.getrandbits(64))
                thread = threading.Thread(target=self._go_on, args=(place, visits, own, rates[place]))
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        """Let each client finish its visit, and join the threads."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _go_on(self, place: int, visits: Sequence[Visit], rng: random.Random, rate: float) -> None:
        while self._may_begin(place, rate):
            visit = rng.choice(visits)
            if place == 0:
                self._visit(visit, rng)
            else:
                self._attack(visit, rng)

    def _may_begin(self, place: int, rate: float) -> bool:
        """Wait for the next turn.  Returns False at the end."""
        with self._gates[place]:
            now = time.monotonic()
            turn = max(now, self._next[place])
            self._next[place] = turn + 1 / (rate * self.pace)
        return not self._stopping.wait(turn - now)

    def _visit(self, visit: Visit, rng: random.Random) -> None:
        began = time.monotonic()
        error: Exception | None = None
        try:
            visit.hold(self._place, rng)
        except Exception as problem:  # recorded as a fault
            error = problem
        self._record.met(visit, began, error)

    def _attack(self, visit: Visit, rng: random.Random) -> None:
        self._record.hostile[visit.name] += 1
        try:
            visit.hold(self._place, rng)
        except Wrong as error:
            self._record.fault(f"{visit}: wrong: {error}")
        except Exception as error:
            self._record.fault(f"{visit}: {_description(error)}")
