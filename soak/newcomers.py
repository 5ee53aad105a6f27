"""Honest newcomers: each connects, asks one question, and compares the reply; and their percentiles."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from daemons.launcelot import ANSWERS

QUESTION, ANSWER = next(iter(ANSWERS.items()))

#: Seconds for one visit; a reply after that counts as lost.
LOST_AFTER = 10.0

Ask = Callable[[], bool]


def ask_launcelot(port: int) -> Ask:
    """Return a visit to a launcelot on this port; it returns whether the reply was right."""

    def ask() -> bool:
        with socket.create_connection(("127.0.0.1", port), LOST_AFTER) as peer:
            peer.sendall(QUESTION)
            return peer.recv(1000) == ANSWER

    return ask


@dataclass
class Measured:
    """The results of many visits."""

    asked: int = 0
    #: Seconds of each visit with the right reply.
    times: list[float] = field(default_factory=list)
    #: Descriptions of the others.
    lost: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return the time in ms within which this share of the visits was answered."""
        return percentile(self.times, share) * 1000

    def __str__(self) -> str:
        figures = ", ".join(f"p{share * 100:g} {self.percentile(share):.0f}" for share in (0.5, 0.9, 0.99))
        longest = max(self.times, default=math.nan) * 1000
        return f"{len(self.times)} of {self.asked} answered, {figures}, longest {longest:.0f} ms"


def percentile(times: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; NaN without times."""
    return sorted(times)[max(0, math.ceil(len(times) * share) - 1)] if times else math.nan


def visit(
    ask: Ask, count: int, seconds: float, at_once: int = 2, pause: float = 0.01, lost_after: float = LOST_AFTER
) -> Measured:
    """Make `count` visits, within `seconds`, from `at_once` threads that pause between two visits."""
    found, lock, end = Measured(), threading.Lock(), time.monotonic() + seconds

    def go_on() -> None:
        while time.monotonic() < end:
            with lock:
                if found.asked >= count:
                    return
                found.asked += 1
            began, problem = time.monotonic(), "wrong reply"
            try:
                answered = ask()
            except (OSError, EOFError) as error:
                answered, problem = False, f"{type(error).__name__}: {error}"
            took = time.monotonic() - began
            with lock:
                if answered and took <= lost_after:
                    found.times.append(took)
                else:
                    found.lost.append(f"after {took:.1f} s" if answered else problem)
            time.sleep(pause)

    threads = [threading.Thread(target=go_on) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
