"""The states of workers, with a clock and a kernel that are made up: no process is started, nothing waits."""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest

from daemons.serving import signals
from daemons.serving.engines.worker import (
    ABANDON,
    FIRST_START_LIMIT,
    KILL_DELAY,
    SHORT_LIFE,
    SIGNAL_OF,
    START_LIMIT,
    STUCK,
    Log,
    Send,
    Start,
    State,
)
from daemons.serving.engines.worker_table import WorkerTable

DRAIN = 10.0
TERM, CUT, KILL = signal.SIGTERM, signals.CUT, signal.SIGKILL


class Kernel:
    """Carries out the actions of a table: numbers the processes that are started, and records the signals."""

    def __init__(self, processes: int) -> None:
        self.now = 100.0
        self.sent: list[tuple[int, signal.Signals]] = []
        self.log: list[str] = []
        self.started = self.restarts = 0
        self.fails = False
        self.table = WorkerTable(processes, DRAIN)

    def act(self) -> None:
        while self.table.actions:
            match self.table.actions.popleft():
                case Start() as start if self.fails:
                    self.table.start_failed(start, "Resource temporarily unavailable", self.now)
                case Start() as start:
                    self.started += 1
                    self.table.started(start, self.started, self.now)
                case Send(pid, number):
                    self.sent.append((pid, number))
                case Log(_, text, arguments):
                    self.log.append(text % arguments)
                case _:
                    self.restarts += 1

    def begin(self) -> None:
        self.table.begin(self.now)
        self.act()

    def ready(self, pid: int) -> None:
        self.table.ready(pid, self.now)
        self.act()

    def all_ready(self) -> None:
        for pid in list(self.table.workers):
            self.ready(pid)

    def died(self, pid: int, code: int) -> None:
        self.table.died(pid, code, self.now)
        self.act()

    def renew(self) -> None:
        self.table.renew(self.now)
        self.act()

    def stop(self, drain: float | None = None) -> None:
        self.table.stop(self.now, drain)
        self.act()

    def cut(self) -> None:
        self.table.cut(self.now)
        self.act()

    def turned(self, *pids: int) -> None:
        for pid in pids:
            self.table.turned(pid, int(self.now), self.now)

    def tick(self, seconds: float) -> None:
        """Let time pass, with a tick at each second, and one at the end."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 1.0, until)
            self.table.tick(self.now)
            self.act()
        self.table.tick(self.now)
        self.act()


@pytest.fixture
def kernel() -> Kernel:
    """Two workers, both ready."""
    kernel = Kernel(2)
    kernel.begin()
    kernel.all_ready()
    return kernel


def test_the_daemon_is_complete_when_all_workers_are_ready() -> None:
    kernel = Kernel(2)
    kernel.begin()
    kernel.ready(1)
    assert not kernel.table.complete
    kernel.ready(2)
    assert kernel.table.complete


def test_a_worker_that_drains_for_its_successor_is_not_signalled_again_by_a_stop(kernel: Kernel) -> None:
    kernel.renew()
    kernel.ready(3)
    assert kernel.sent == [(1, TERM)]
    kernel.stop()
    assert Counter(kernel.sent) == {(pid, TERM): 1 for pid in (1, 2, 3, 4)}


def test_no_worker_is_started_after_a_stop(kernel: Kernel) -> None:
    kernel.renew()
    kernel.stop()
    kernel.ready(3)
    kernel.renew()
    kernel.died(3, 0)
    kernel.died(1, -9)
    kernel.tick(SHORT_LIFE)
    assert kernel.started == 3


def test_a_worker_that_does_not_end_is_cut_then_killed(kernel: Kernel) -> None:
    kernel.stop()
    kernel.tick(DRAIN)
    assert kernel.sent[2:] == [(1, CUT), (2, CUT)]
    kernel.tick(KILL_DELAY)
    assert kernel.sent[4:] == [(1, KILL), (2, KILL)]
    kernel.tick(ABANDON)
    assert kernel.table.ended  # though neither has been reaped: the daemon does not wait for uninterruptible I/O


def test_a_retired_worker_that_does_not_end_is_killed_though_the_daemon_goes_on(kernel: Kernel) -> None:
    kernel.renew()
    kernel.ready(3)
    kernel.ready(4)
    kernel.tick(DRAIN)
    kernel.tick(KILL_DELAY)
    assert [pid for pid, number in kernel.sent if number == KILL] == [1, 2]
    for pid in (1, 2):
        kernel.died(pid, -KILL)
    assert sorted(kernel.table.workers) == [3, 4]
    assert kernel.started == 4


def test_a_successor_that_is_never_ready_is_killed_and_the_old_workers_stay(kernel: Kernel) -> None:
    kernel.renew()
    kernel.tick(START_LIMIT)
    assert kernel.sent == [(3, KILL)]
    kernel.died(3, -KILL)
    kernel.tick(START_LIMIT)
    assert sorted(kernel.table.workers) == [1, 2]
    assert kernel.started == 3


def test_a_successor_that_is_killed_for_being_slow_is_replaced_if_the_old_worker_has_died() -> None:
    kernel = Kernel(1)
    kernel.begin()
    kernel.all_ready()
    kernel.renew()
    kernel.died(1, -11)
    kernel.tick(START_LIMIT)
    kernel.died(2, -KILL)
    kernel.tick(0)
    assert sorted(kernel.table.workers) == [3]


def test_a_repeated_stop_cuts_each_worker_once(kernel: Kernel) -> None:
    kernel.stop()
    kernel.cut()
    kernel.cut()
    assert Counter(kernel.sent) == {(pid, number): 1 for pid in (1, 2) for number in (TERM, CUT)}


def test_a_second_stop_can_only_shorten_the_time(kernel: Kernel) -> None:
    kernel.stop(1.0)
    kernel.stop(DRAIN)
    kernel.tick(1.0)
    assert [number for _, number in kernel.sent] == [TERM, TERM, CUT, CUT]


def test_dead_worker_is_replaced_later_if_fork_fails(kernel: Kernel) -> None:
    kernel.now += 2 * SHORT_LIFE
    kernel.fails = True
    kernel.died(1, -9)
    kernel.tick(0)
    assert (sorted(kernel.table.workers), kernel.table.ended) == ([2], False)
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    assert sorted(kernel.table.workers) == [2, 3]


def test_renewal_leaves_the_old_workers_if_fork_fails(kernel: Kernel) -> None:
    kernel.fails = True
    kernel.renew()
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    assert (sorted(kernel.table.workers), kernel.sent) == ([1, 2], [])


@pytest.mark.parametrize("seed", range(200))
def test_any_sequence_of_events_repeats_no_signal_and_ends_in_time(seed: int) -> None:
    """Random orders of readiness, death, SIGHUP and time; then SIGTERM, after which workers end when they like."""
    rng = random.Random(seed)
    kernel = Kernel(rng.randint(1, 4))
    table = kernel.table
    kernel.begin()
    kernel.all_ready()
    for _ in range(rng.randint(0, 60)):
        pids = list(table.workers)
        match rng.choice(["ready", "ready", "died", "renew", "tick"]):
            case "ready" if pids:
                kernel.ready(rng.choice(pids))
            case "died" if pids:
                pid = rng.choice(pids)
                killed = (pid, KILL) in kernel.sent
                kernel.died(pid, -KILL if killed else rng.choice([0, 1, -11]))
            case "renew":
                kernel.renew()
            case _:
                kernel.tick(rng.choice([0.1, 1.0, 20.0]))
    started, stopped = kernel.started, kernel.now
    kernel.stop()
    while not table.ended:
        for pid in [pid for pid in table.workers if rng.random() < 0.1 or (pid, KILL) in kernel.sent]:
            kernel.died(pid, 0)
        if rng.random() < 0.1:
            kernel.renew()
        kernel.tick(0.25)
        assert kernel.now <= stopped + DRAIN + KILL_DELAY + 1.0, f"seed {seed}"
    assert kernel.started == started, f"seed {seed}: started after the stop"
    assert max(Counter(kernel.sent).values(), default=1) == 1, f"seed {seed}: signalled twice"
    order = {number: state for state, number in SIGNAL_OF.items()}
    for pid in {pid for pid, _ in kernel.sent}:
        states = [order[number] for each, number in kernel.sent if each == pid]
        assert states == sorted(states), f"seed {seed}: {pid} went back"


def test_sighup_during_the_start_leaves_the_daemon_complete() -> None:
    """It was never announced otherwise, and a worker that failed later ended the daemon."""
    kernel = Kernel(2)
    kernel.begin()
    kernel.ready(1)
    kernel.renew()
    kernel.all_ready()
    kernel.all_ready()
    assert kernel.table.complete


def test_every_state_but_the_first_two_has_a_signal() -> None:
    assert SIGNAL_OF.keys() == set(State) - {State.STARTING, State.READY}


# --- limits of a start -------------------------------------------------------------------------------


def test_worker_that_is_never_ready_at_the_first_start_ends_the_daemon() -> None:
    kernel = Kernel(2)
    kernel.begin()
    kernel.ready(1)
    kernel.tick(FIRST_START_LIMIT)
    assert kernel.sent == [(2, KILL), (1, TERM)]
    for pid in (1, 2):
        kernel.died(pid, -KILL)
    assert (kernel.table.ended, kernel.table.code, kernel.started) == (True, 1, 2)


def test_replacement_that_is_never_ready_is_killed_and_replaced(kernel: Kernel) -> None:
    kernel.tick(2 * SHORT_LIFE)
    kernel.died(1, -11)
    kernel.tick(0)
    kernel.tick(FIRST_START_LIMIT)
    assert kernel.sent == [(3, KILL)]
    kernel.died(3, -KILL)
    kernel.tick(0)
    assert (sorted(kernel.table.workers), kernel.restarts) == ([2, 4], 2)


def test_worker_that_fails_after_it_was_ready_does_not_end_a_daemon_that_still_starts() -> None:
    kernel = Kernel(2)
    kernel.begin()
    kernel.ready(1)
    kernel.died(1, 1)
    kernel.tick(SHORT_LIFE)
    assert (sorted(kernel.table.workers), kernel.table.code) == ([2, 3], 0)


def test_first_start_is_repeated_if_fork_fails() -> None:
    kernel = Kernel(2)
    kernel.fails = True
    kernel.begin()
    assert not kernel.table.ended
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    kernel.all_ready()
    assert kernel.table.complete
    assert kernel.log == ["worker could not be started: Resource temporarily unavailable; next attempt in 1 s"] * 2


def test_successor_that_cannot_be_forked_is_replaced_if_the_old_worker_has_died(kernel: Kernel) -> None:
    kernel.tick(SHORT_LIFE)
    kernel.table.renew(kernel.now)
    kernel.table.died(1, -9, kernel.now)
    kernel.fails = True
    kernel.act()
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    assert sorted(kernel.table.workers) == [2, 3]


# --- stuck workers -----------------------------------------------------------------------------------


def test_worker_without_a_turn_is_cut_then_killed_and_replaced(kernel: Kernel) -> None:
    kernel.turned(1, 2)
    for _ in range(int(STUCK)):
        kernel.tick(1.0)
        kernel.turned(2)
    kernel.tick(KILL_DELAY)
    assert kernel.sent == [(1, CUT), (1, KILL)]
    kernel.died(1, -KILL)
    kernel.tick(0)
    assert (sorted(kernel.table.workers), kernel.restarts) == ([2, 3], 1)
    assert kernel.log[0] == "worker 1 has made no turn for 10 s and is replaced"


def test_worker_is_stuck_from_its_first_turn_before_it_was_ready() -> None:
    kernel = Kernel(1)
    kernel.begin()
    kernel.turned(1)
    kernel.tick(1.0)
    kernel.ready(1)
    kernel.tick(STUCK)
    assert kernel.sent == [(1, CUT)]


def test_workers_without_turns_are_not_stuck_if_this_process_was_stopped_too(kernel: Kernel) -> None:
    kernel.turned(1, 2)
    kernel.now += 3600.0
    kernel.tick(0)
    kernel.tick(STUCK / 2)
    assert kernel.sent == []
    kernel.tick(STUCK)
    assert kernel.sent[:2] == [(1, CUT), (2, CUT)]


def test_starting_worker_is_not_killed_if_this_process_was_stopped_too(kernel: Kernel) -> None:
    kernel.renew()
    kernel.now += 3600.0
    kernel.tick(START_LIMIT - 1.0)
    assert kernel.sent == []


def test_killed_worker_is_not_abandoned_if_this_process_was_stopped_too(kernel: Kernel) -> None:
    kernel.cut()
    kernel.tick(KILL_DELAY)
    kernel.now += 3600.0
    kernel.tick(ABANDON / 2)
    assert len(kernel.table.workers) == 2


def test_worker_that_drains_is_never_stuck(kernel: Kernel) -> None:
    kernel.table.drain_timeout = 100.0
    kernel.turned(1, 2)
    kernel.stop()
    kernel.tick(3 * STUCK)
    assert kernel.sent == [(1, TERM), (2, TERM)]


# --- renewals ----------------------------------------------------------------------------------------


def test_renewal_waits_while_as_many_old_workers_drain_as_serve(kernel: Kernel) -> None:
    for _ in range(3):
        kernel.renew()
        for _ in range(2):
            kernel.all_ready()
    assert sorted(kernel.table.workers) == [1, 2, 3, 4]
    assert kernel.log == ["new workers wait until one of 2 draining workers has ended"] * 2
    kernel.died(1, 0)
    kernel.died(2, 0)
    kernel.all_ready()
    kernel.all_ready()
    assert sorted(kernel.table.workers) == [3, 4, 5, 6]
    assert kernel.sent == [(pid, TERM) for pid in (1, 2, 3, 4)]


def test_renewal_goes_on_after_the_death_of_an_old_worker_and_its_successor() -> None:
    kernel = Kernel(3)
    kernel.begin()
    kernel.all_ready()
    kernel.renew()
    kernel.died(1, -9)
    kernel.died(4, -9)
    for _ in range(4):
        kernel.tick(SHORT_LIFE)
        kernel.all_ready()
    assert [pid for pid, _ in kernel.sent] == [2, 3]


# --- actions that were not carried out yet -----------------------------------------------------------


def test_signal_is_not_sent_to_a_worker_that_was_reaped_meanwhile(kernel: Kernel) -> None:
    kernel.table.stop(kernel.now)
    kernel.table.died(1, 0, kernel.now)
    kernel.act()
    assert kernel.sent == [(2, TERM)]


def test_stop_revokes_a_start(kernel: Kernel) -> None:
    kernel.table.renew(kernel.now)
    kernel.table.stop(kernel.now)
    kernel.act()
    assert kernel.started == 2
