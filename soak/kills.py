"""kill -9 of supervisord, of a daemon, and of both, again and again under load.

After each kill of supervisord the ports must become free, so that a new supervisord can start all daemons.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

from daemons.operating.metrics import stats
from soak.newcomers import ask_launcelot, visit
from soak.place import Place, PlaceError, is_free, until

#: Number of processes by daemon.
PROCESSES = {"zen": 1, "launcelot": 2, "jsonrpc": 3, "lines": 4}

TIMES = 50

#: Seconds within which the ports must be free, and all daemons running; on a busy machine the latter may take twice as
#: long as an undisturbed start.
FREE, RUNNING = 3.0, 5.0

#: Seconds to wait for either; beyond, the run cannot go on.
PATIENCE = 60.0


class Kills:
    """The kills, and the measured times."""

    def __init__(self, place: Place, rng: random.Random) -> None:
        self._place, self._rng = place, rng
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self.free = self.running = 0.0
        #: Seconds of an undisturbed start.
        self.undisturbed = 0.0

    def next(self) -> None:
        """Kill once, and wait until all daemons are running again."""
        what = self._rng.choice(("supervisord", "daemon", "both"))
        name = self._rng.choice(list(self._place.ports))
        former = {each: self._place.figures(each).pid for each in self._place.ports}
        killed = {"supervisord": set(former), "daemon": {name}, "both": set(former)}[what]
        began = time.monotonic()
        if what != "daemon":
            self._place.kill_supervisord()
        if what != "supervisord":
            with suppress(ProcessLookupError):
                os.kill(former[name], signal.SIGKILL)
        if what != "daemon":
            until(lambda: all(map(is_free, self._place.ports.values())), PATIENCE, 0.02)
            self.free = max(self.free, took := time.monotonic() - began)
            if took > FREE:
                self.faults.append(f"{what}: the ports were free after {took:.1f} s")
            began = time.monotonic()
            self._place.launch()
        if not until(lambda: all(self._runs(each, former[each]) for each in killed), PATIENCE, 0.02):
            raise PlaceError(f"{what}: not all daemons run after {PATIENCE:g} s: {self._place.control('status')}")
        self.running = max(self.running, took := time.monotonic() - began)
        if took > max(RUNNING, 2 * self.undisturbed):
            self.faults.append(f"{what}: all daemons were running after {took:.1f} s")
        self.done[what] += 1

    def _runs(self, name: str, former: int) -> bool:
        try:
            return self._place.figures(name).pid != former and self._place.is_ready(name)
        except stats.UnreadableError:
            return False


def play(times: int, rng: random.Random, seconds: float) -> list[str]:
    """Kill so many times, within `seconds`; print a line, and return the broken promises."""
    place, over = Place(PROCESSES), threading.Event()
    for name, count in PROCESSES.items():
        ini = place.path / "conf" / f"{name}.ini"
        text = re.sub(r"(?m)^processes = .*\n", "", ini.read_text("utf-8"))
        ini.write_text(text.replace("[daemon]\n", f"[daemon]\nprocesses = {count}\n", 1), "utf-8")
    kills, end = Kills(place, rng), time.monotonic() + seconds

    def load() -> None:
        ask = ask_launcelot(place.ports["launcelot"])
        while not over.is_set():
            visit(ask, 50, 5.0, at_once=4)

    thread = threading.Thread(target=load)
    try:
        place.start()
        place.stop()
        began = time.monotonic()
        place.launch()
        if missing := place.not_ready():
            raise PlaceError(f"not ready: {', '.join(missing)}")
        kills.undisturbed = time.monotonic() - began
        thread.start()
        for _ in range(times):
            if time.monotonic() > end:
                break
            kills.next()
        fatal = place.control("status").count("FATAL") + (place.path / "logs" / "supervisord.log").read_text(
            "utf-8", "replace"
        ).count("entered FATAL state")
        if fatal:
            kills.faults.append(f"{fatal} daemons were FATAL")
        kills.faults += place.stop()
    finally:
        over.set()
        if thread.ident is not None:
            thread.join()
        place.end()
    listed = ", ".join(f"{many} of {what}" for what, many in sorted(kills.done.items()))
    print(
        f"soak kills: {kills.done.total()} kills ({listed}); ports free after {kills.free:.1f} s at most, "
        f"all running after {kills.running:.1f} s at most, undisturbed after {kills.undisturbed:.1f} s",
        flush=True,
    )
    return kills.faults


def run(seconds: float, seed: int) -> int:
    """Kill `TIMES` times, or for `seconds`; return the exit code."""
    print(f"soak kills: {TIMES} times, at most {seconds:g} s, seed {seed}", flush=True)
    try:
        faults = play(TIMES, random.Random(seed), seconds)
    except PlaceError as error:
        faults = [str(error)]
    for fault in faults:
        print(f"FAULT  {fault}")
    print(f"soak kills: {f'{len(faults)} faults' if faults else 'no faults'}, seed {seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    sys.exit(run(900.0, int(sys.argv[1]) if sys.argv[1:] else 0))
