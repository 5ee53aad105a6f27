"""One soak test, from the start of the daemons to their end."""

from __future__ import annotations

import random
import time
from collections import Counter

from soak import honest, hostile, reconcile, watch, web
from soak.disturbances import Disturbances
from soak.load import Load, Record
from soak.newcomers import percentile
from soak.place import LOG_BACKUPS, LONGEST_DEADLINE, Place, until

PROGRESS_SECONDS = 10.0
LOOK_SECONDS = 0.25

#: Maximum cores for the load and the daemons together; a machine with two small cores has one left.
MOST_CORES = 1.0

#: Warm-up as a fraction of the load's duration, so that caches are filled before the first measurement.
WARM_UP_SHARE, WARM_UP_MOST = 0.2, 20.0

#: Seconds between disturbances; shorter in a short run, so that each kind occurs at least once in a minute.
CALM_SHARE, CALM_LEAST, CALM_MOST = 1 / 24, 1.0, 6.0

#: Seconds until all connections are closed: silent ones at idle_timeout, as are those of a front to upstream servers.
REST_SECONDS = LONGEST_DEADLINE + 25.0


class Run:
    """A test environment, the load on it, and the faults found."""

    def __init__(self, place: Place, rng: random.Random, rate: float, deadline: float) -> None:
        self._place, self._rng = place, rng
        self._rates = (rate, rate / 2)
        here = place.ports
        self._record = Record(deadline)
        self.load = Load(
            place,
            self._record,
            [visit for visit in honest.HONEST + web.HONEST if _possible(visit.daemon, visit.name, here)],
            [visit for visit in hostile.HOSTILE if visit.daemon in here],
        )
        self._disturbances = Disturbances(place, self._record, rng)
        self._clock = watch.Clock([])
        self._cores: list[float] = []
        self._before: dict[str, watch.Held] = {}
        self._after: dict[str, watch.Held] = {}
        self._endings = Counter[str]()
        self._lines = 0
        self._found: list[str] = []

    def whole(self, seconds: float) -> None:
        """Run all phases.  Raises `PlaceError` if the daemons cannot be started."""
        place = self._place
        place.start()
        warm_up = min(WARM_UP_MOST, seconds * WARM_UP_SHARE)
        self._visit("warm-up", warm_up, calm=None)
        self._before = self._rest({})
        self._visit("load", seconds, calm=min(CALM_MOST, max(CALM_LEAST, seconds * CALM_SHARE)))
        self._disturbances.finish()
        self._after = self._rest(self._before)
        for name in place.ports:
            self._found += watch.complaints(name, self._before[name], self._after[name])
        self._found += place.stop()
        for name in place.ports:
            if (place.path / "logs" / f"{name}.log.{LOG_BACKUPS}").exists():
                self._found.append(f"{name}: its log has more than {LOG_BACKUPS} files; it cannot be reconciled")
                continue
            log = reconcile.read(place.logs(name))
            runs = [*self._disturbances.former.get(name, []), place.figures(name)]
            self._found += reconcile.complaints(name, log, runs, self._disturbances.kills[name])
            if runs[-1].state != "stopped":
                self._found.append(f"{name}: {runs[-1].state}, not stopped")
            self._endings.update(log.endings)
            self._lines += log.lines

    def _visit(self, phase: str, seconds: float, calm: float | None) -> None:
        """Apply the load for `seconds`; `calm` is the time in seconds between disturbances."""
        began = time.monotonic()
        self._clock = watch.Clock(self._place.processes)
        self.load.start(self._rng, self._rates)
        reported, disturbed = began, began
        while (now := time.monotonic()) < began + seconds:
            time.sleep(LOOK_SECONDS)
            if calm is not None and now > disturbed + calm:
                self._disturbances.next()
                disturbed = time.monotonic()
            self._disturbances.tick()
            if now > reported + PROGRESS_SECONDS:
                reported = now
                self._govern()
                self._print_progress(phase, now - began, seconds)
        self._govern()
        self._print_progress(phase, time.monotonic() - began, seconds)
        self.load.stop()

    def _govern(self) -> None:
        """Adapt the rate of the load to its use of the machine."""
        self._cores.append(share := self._clock.share(self._place.processes))
        self.load.pace = min(1.0, max(0.1, self.load.pace * min(1.5, MOST_CORES / max(0.01, share))))

    def _print_progress(self, phase: str, passed: float, seconds: float) -> None:
        record = self._record
        print(
            f"soak: {phase} {passed:4.0f} of {seconds:g} s, {record.honest.total()} regular clients, "
            f"{record.hostile.total()} hostile, {self._disturbances.done.total()} disturbances, "
            f"slowest {record.slowest:.2f} s, {self._cores[-1]:.2f} cores, {len(record.faults)} faults",
            flush=True,
        )

    def _rest(self, before: dict[str, watch.Held]) -> dict[str, watch.Held]:
        """Return the resources of each daemon once all clients have left; `before` are those expected."""

        def at_rest(name: str) -> bool:
            figures = self._place.figures(name)
            if figures.active or any(process.role == "child" for process in figures.processes):
                return False
            return name not in before or watch.held(figures).descriptors <= before[name].descriptors

        until(lambda: all(map(at_rest, self._place.ports)), REST_SECONDS)
        found = {}
        for name in self._place.ports:
            figures = self._place.figures(name)
            if figures.active:
                self._found.append(
                    f"{name}: {figures.active} conversations still active {REST_SECONDS:g} s after the load"
                )
            if figures.state != "running":
                self._found.append(f"{name}: {figures.state}")
            found[name] = watch.held(figures)
        return found

    def faults(self) -> list[str]:
        """Return all faults."""
        met = [f"{text}{f' ({count} times)' if count > 1 else ''}" for text, count in self._record.faults.items()]
        return met + self._found

    def report(self) -> list[str]:
        """Return the lines of the result tables."""
        record, lines = self._record, [""]
        lines.append(f"{'daemon':<12}{'clients':>8}{'excused':>9}{'threads':>13}{'descriptors':>15}{'MiB':>15}")
        for name, before in self._before.items():
            after = self._after[name]
            lines.append(
                f"{name:<12}{record.honest[name]:>8}{record.excused[name]:>9}"
                f"{f'{before.threads} > {after.threads}':>13}{f'{before.descriptors} > {after.descriptors}':>15}"
                f"{f'{before.rss_kib / 1024:.1f} > {after.rss_kib / 1024:.1f}':>15}"
            )
        lines += [
            "",
            "hostile clients " + _listed(record.hostile),
            "disturbances    " + _listed(self._disturbances.done),
        ]
        lines += [f"endings         {_listed(self._endings)}", f"log             {self._lines:,} lines"]
        shares = ", ".join(f"p{share * 100:g} {percentile(record.times, share):.2f}" for share in (0.5, 0.9, 0.99))
        lines.append(f"seconds a visit {shares}, longest {record.slowest:.2f}")
        lines.append(f"machine         {sum(self._cores) / max(1, len(self._cores)):.2f} cores on average")
        return [*lines, ""]


def _possible(daemon: str, what: str, here: dict[str, int]) -> bool:
    """Return whether the daemon is tested, and for pages of a front its upstream server as well."""
    return daemon in here and not (daemon == "front" and what == "pages" and "webapp" not in here)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
