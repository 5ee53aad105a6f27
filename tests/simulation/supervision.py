"""Simulated runs of `Prefork`: a seed decides the number of workers, their behavior, and the signals.

``python -m soak.supervision`` runs many of them, and shows a single one.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from functools import partial
from random import Random

from daemons.serving import signals
from daemons.serving.engines import prefork
from daemons.serving.engines.prefork import Prefork
from daemons.serving.engines.worker import FIRST_START_LIMIT, KILL_DELAY
from tests.simulation.kernel import KILL, PARENT, SLACK, TERM, Kernel
from tests.simulation.machine import CUT, EndlessError

#: Seconds until a daemon that nothing disturbs must be in order: the longest limit, and as much for its consequences.
SETTLED = 2 * FIRST_START_LIMIT

#: Returns the parent to be simulated.
Make = Callable[[int, float, int | None, Kernel], Prefork]


def make_prefork(processes: int, drain: float, parent: int | None, kernel: Kernel) -> Prefork:
    return Prefork(lambda ready, parent: 0, processes, drain, parent, kernel)


class Run:
    """One run, from the start of the parent to its end."""

    def __init__(self, seed: int, make: Make = make_prefork) -> None:
        self._rng = rng = Random(seed)
        random = rng.random
        self.processes = rng.randint(1, 3)
        self.drain = rng.choice((0.5, 2.0, 5.0))
        self.kernel = kernel = Kernel(rng, self.processes, self.drain)
        kernel.once = random() < 0.5
        self.prefork = make(self.processes, self.drain, kernel.parent if kernel.once else None, kernel)
        self.prefork.turns = kernel.turns
        self.prefork.on_hangup = self._begin_trial
        self.prefork.on_tick.append(self._renew_after_trial)
        self.prefork.on_child.append(self._renew_after_trial)
        #: SIGHUPs that were handled since the trial import began, and whether that has ended.
        self._trials, self._trial_ended = 0, False
        self.prefork.on_stop.append(self._note_stop)
        #: Whether something of the script makes the exit code unpredictable.
        self._unpredictable = False
        length = rng.choice((0.3, 0.3, 2.0, 3.0, 8.0, 20.0))
        for _ in range(rng.randint(0, 5)):
            self._at(length * random(), *self._disturbance())
        if random() < 0.35:
            self._at(length, "calm", self._settle)
        else:
            end = length * random() if random() < 0.3 else length
            if random() < 0.2:  # in the middle of a renewal
                self._at(max(0.0, end - 1.5 * random()), "SIGHUP", self._hang_up)
            if random() < 0.2:  # when a worker becomes ready
                self._at(max(0.0, end - 1.5 * random()), "end with the next worker", self._end_with_ready)
            self._at(end, "end", self._end)

    def _at(self, seconds: float, text: str, action: Callable[..., None], *arguments: object) -> None:
        self.kernel.after(seconds, self._happen, text, action, *arguments)

    def _happen(self, text: str, action: Callable[..., None], *arguments: object) -> None:
        self.kernel.note(f"script: {text}")
        action(*arguments)

    def _disturbance(self) -> tuple[str, Callable[[], None]]:
        kernel, rng = self.kernel, self._rng
        chance = rng.random()
        if chance < 0.44:
            return "SIGHUP", self._hang_up
        if chance < 0.57:
            return "kill -9 of a worker", partial(self._to_child, self._kill)
        if chance < 0.75:
            return "hang", partial(self._to_child, kernel.hang)
        if chance < 0.79:
            return "SIGTERM to a worker", partial(self._to_child, lambda child: kernel.signal_child(child, TERM))
        if chance < 0.82:
            return "SIGUSR1", lambda: kernel.deliver(signals.REOPEN)
        if chance < 0.88:
            return "fork fails", self._fail_forks
        if chance < 0.91:
            return "pipe fails", self._fail_pipes
        if chance < 0.96:
            return "the waker is full", self._flood
        return "all processes stop", partial(kernel.freeze, rng.choice((2.0, 60.0)))

    def _flood(self) -> None:
        self.kernel.flood()
        if self._rng.random() < 0.5:
            self._to_child(self._kill)

    def _hang_up(self) -> None:
        self._unpredictable = True
        self.kernel.deliver(signal.SIGHUP)

    def _begin_trial(self) -> None:
        """Handle SIGHUP as `daemons.operating.reload.Renewal` does: renew the workers after the trial import."""
        if not self._trials:
            self.kernel.after(self._rng.random(), self._end_trial)
        self._trials += 1

    def _end_trial(self) -> None:
        self._trial_ended = True
        self.kernel.deliver(signal.SIGCHLD)

    def _renew_after_trial(self, now: float = 0.0) -> None:
        if not self._trial_ended:
            return
        self._trial_ended, again, self._trials = False, self._trials > 1, 0
        if not self.kernel.stop_at:
            self.kernel.renewed_at, self.kernel.start_failed = self.kernel.now, False
        self.prefork.renew()
        if again:
            self._begin_trial()

    def _fail_forks(self) -> None:
        self.kernel.failing_forks += self._rng.randint(1, 3)

    def _fail_pipes(self) -> None:
        self.kernel.failing_pipes += self._rng.randint(1, 3)

    def _to_child(self, action: Callable[..., None]) -> None:
        if children := [child for child in self.kernel.children.values() if child.alive]:
            action(self._rng.choice(children))

    def _kill(self, child: object) -> None:
        self.kernel.die(child, int(KILL))  # type: ignore[arg-type]

    # --- the end -----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Let nothing disturb the daemon, and expect it to be in order after some time."""
        kernel = self.kernel
        kernel.calm = True
        kernel.failing_forks = kernel.failing_pipes = 0
        kernel.after(2.0, self._expect_settled, kernel.now + SETTLED)

    def _expect_settled(self, until: float) -> None:
        kernel = self.kernel
        if kernel.stop_at:
            return  # a worker failed to start
        children = [child for child in kernel.children.values() if child.alive]
        old = [child for child in children if child.forked < kernel.renewed_at and not kernel.start_failed]
        right = not self._trials and len(children) == self.processes and not old and kernel.announced
        if right and all(child.ready and not child.hung and not child.sent for child in children):
            self._end()
        elif kernel.now < until:
            kernel.after(1.0, self._expect_settled, until)
        else:
            if old and len(children) == self.processes:
                kernel.violate("the renewal does not end")
            else:
                ready = sum(child.ready and not child.hung for child in children)
                kernel.violate(f"{ready} of {self.processes} workers serve, {len(children)} processes")
            self._end()

    def _end_with_ready(self) -> None:
        self.kernel.with_ready = self._end

    def _end(self) -> None:
        kernel, random = self.kernel, self._rng.random
        if random() < 0.1:
            kernel.flood()
        chance = random()
        if chance < 0.70:
            kernel.deliver(TERM)
        elif chance < 0.85:  # to the process group, in any order
            for child in list(kernel.children.values()):
                kernel.after(0.1 * random(), kernel.signal_child, child, TERM)
            kernel.after(0.1 * random(), kernel.deliver, TERM)
        elif chance < 0.92 and kernel.once:
            kernel.parent = PARENT + 100
        else:
            kernel.deliver(CUT)
        if random() < 0.3:
            kernel.after(2.0 * random(), self._hang_up)
        if random() < 0.3:
            kernel.after(2.0 * random(), kernel.deliver, TERM)
        if random() < 0.05:
            kernel.after(2.0 * random(), kernel.deliver, CUT)

    def _note_stop(self) -> None:
        self.kernel.stop_at = self.kernel.stop_at or self.kernel.now

    def _announce(self) -> None:
        self.kernel.announced = True

    def violations(self) -> list[str]:
        """Run to the end, and return the violated promises."""
        kernel = self.kernel
        try:
            code = self.prefork.run(self._announce)
        except EndlessError:
            return ["the parent does not end"]
        except Exception as error:
            return [f"the parent raises {error!r}"]
        self._check_end(code)
        return kernel.violations

    def _check_end(self, code: int) -> None:
        kernel = self.kernel
        if kernel.children:
            kernel.violate(f"the parent ends before {len(kernel.children)} workers, or does not reap them")
        if left := kernel.open_descriptors:
            kernel.violate(f"descriptors left open: {left}")
        if not kernel.stop_at:
            kernel.violate("the parent ends without a stop")
        drain = 0.0 if kernel.cut_at == kernel.stop_at else self.drain
        if kernel.now > kernel.stop_at + drain + KILL_DELAY + SLACK:
            kernel.violate(f"the end comes {kernel.now - kernel.stop_at:.1f} s after the stop, drain {self.drain:g} s")
        if kernel.cut_at and kernel.now > kernel.cut_at + KILL_DELAY + SLACK:
            kernel.violate(f"the end comes {kernel.now - kernel.cut_at:.1f} s after the signal to cut")
        if code and (kernel.announced or code not in kernel.exit_codes):
            kernel.violate(f"exit code {code}")
        if kernel.expected_code and not self._unpredictable and code != kernel.expected_code:
            kernel.violate(f"exit code {code}; a worker failed to start with {kernel.expected_code}")


def quiet() -> None:
    """Silence the log of the parent, which reports thousands of dead workers."""
    prefork.log.logger.setLevel(logging.CRITICAL + 1)


def violated(seed: int, make: Make = make_prefork) -> list[str]:
    """Return the promises violated in the run of a seed."""
    return Run(seed, make).violations()


def report(seed: int, make: Make = make_prefork) -> str:
    """Repeat the run of a seed; return its violations, all that happened, and the command that repeats it."""
    run = Run(seed, make)
    run.kernel.trace = []
    found = run.violations()
    replay = f"to repeat it: python -m soak.supervision --seed {seed}"
    return "\n".join([f"seed {seed}: {'; '.join(found) or 'no violation'}", *run.kernel.trace, replay])
