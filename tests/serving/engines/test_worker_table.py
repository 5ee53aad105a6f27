"""The states of workers, with a clock and a kernel that are made up: no process is started, nothing waits."""

from __future__ import annotations

import errno
import random
import signal
from collections import Counter

import pytest

from daemons.serving import signals
from daemons.serving.engines.worker_table import KILL_DELAY, SHORT_LIFE, SIGNAL_OF, START_LIMIT, State, WorkerTable

DRAIN = 10.0
TERM, CUT, KILL = signal.SIGTERM, signals.CUT, signal.SIGKILL


class Kernel:
    """Numbers the processes that are started, and records the signals that are sent."""

    def __init__(self, processes: int) -> None:
        self.now = 100.0
        self.sent: list[tuple[int, signal.Signals]] = []
        self.started = 0
        self.fails = False
        self.table = WorkerTable(processes, DRAIN, self._start, self._send)

    def _start(self) -> int:
        if self.fails:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.started += 1
        return self.started

    def _send(self, pid: int, number: signal.Signals) -> None:
        self.sent.append((pid, number))

    def all_ready(self) -> None:
        for pid in list(self.table.workers):
            self.table.ready(pid, self.now)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.table.tick(self.now)


@pytest.fixture
def kernel() -> Kernel:
    """Two workers, both ready."""
    kernel = Kernel(2)
    kernel.table.begin(kernel.now)
    kernel.all_ready()
    return kernel


def test_the_daemon_is_complete_when_all_workers_are_ready() -> None:
    kernel = Kernel(2)
    kernel.table.begin(kernel.now)
    kernel.table.ready(1, kernel.now)
    assert not kernel.table.complete
    kernel.table.ready(2, kernel.now)
    assert kernel.table.complete


def test_a_worker_that_drains_for_its_successor_is_not_signalled_again_by_a_stop(kernel: Kernel) -> None:
    kernel.table.renew(kernel.now)
    kernel.table.ready(3, kernel.now)
    assert kernel.sent == [(1, TERM)]
    kernel.table.stop(kernel.now)
    assert Counter(kernel.sent) == {(pid, TERM): 1 for pid in (1, 2, 3, 4)}


def test_no_worker_is_started_after_a_stop(kernel: Kernel) -> None:
    kernel.table.renew(kernel.now)
    kernel.table.stop(kernel.now)
    kernel.table.ready(3, kernel.now)
    kernel.table.renew(kernel.now)
    kernel.table.died(3, 0, kernel.now)
    kernel.table.died(1, -9, kernel.now)
    kernel.tick(SHORT_LIFE)
    assert kernel.started == 3


def test_a_worker_that_does_not_end_is_cut_then_killed(kernel: Kernel) -> None:
    kernel.table.stop(kernel.now)
    kernel.tick(DRAIN)
    assert kernel.sent[2:] == [(1, CUT), (2, CUT)]
    kernel.tick(KILL_DELAY)
    assert kernel.sent[4:] == [(1, KILL), (2, KILL)]
    assert kernel.table.next_deadline == float("inf")


def test_a_retired_worker_that_does_not_end_is_killed_though_the_daemon_goes_on(kernel: Kernel) -> None:
    kernel.table.renew(kernel.now)
    kernel.table.ready(3, kernel.now)
    kernel.table.ready(4, kernel.now)
    kernel.tick(DRAIN)
    kernel.tick(KILL_DELAY)
    assert [pid for pid, number in kernel.sent if number == KILL] == [1, 2]
    for pid in (1, 2):
        kernel.table.died(pid, -KILL, kernel.now)
    assert sorted(kernel.table.workers) == [3, 4]
    assert kernel.started == 4


def test_a_successor_that_is_never_ready_is_killed_and_the_old_workers_stay(kernel: Kernel) -> None:
    kernel.table.renew(kernel.now)
    kernel.tick(START_LIMIT)
    assert kernel.sent == [(3, KILL)]
    kernel.table.died(3, -KILL, kernel.now)
    kernel.tick(START_LIMIT)
    assert sorted(kernel.table.workers) == [1, 2]
    assert kernel.started == 3


def test_a_successor_that_is_killed_for_being_slow_is_replaced_if_the_old_worker_has_died(kernel: Kernel) -> None:
    kernel.table.renew(kernel.now)
    kernel.table.died(1, -11, kernel.now)
    kernel.tick(START_LIMIT)
    kernel.table.died(3, -KILL, kernel.now)
    kernel.tick(0)
    assert sorted(kernel.table.workers) == [2, 4]


def test_a_repeated_stop_cuts_each_worker_once(kernel: Kernel) -> None:
    kernel.table.stop(kernel.now)
    kernel.table.cut(kernel.now)
    kernel.table.cut(kernel.now)
    assert Counter(kernel.sent) == {(pid, number): 1 for pid in (1, 2) for number in (TERM, CUT)}


def test_a_second_stop_can_only_shorten_the_time(kernel: Kernel) -> None:
    kernel.table.stop(kernel.now, 1.0)
    kernel.table.stop(kernel.now, DRAIN)
    kernel.tick(1.0)
    assert [number for _, number in kernel.sent] == [TERM, TERM, CUT, CUT]


def test_dead_worker_is_replaced_later_if_fork_fails(kernel: Kernel) -> None:
    kernel.now += 2 * SHORT_LIFE
    kernel.fails = True
    kernel.table.died(1, -9, kernel.now)
    kernel.tick(0)
    assert (sorted(kernel.table.workers), kernel.table.ended) == ([2], False)
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    assert sorted(kernel.table.workers) == [2, 3]


def test_renewal_leaves_the_old_workers_if_fork_fails(kernel: Kernel) -> None:
    kernel.fails = True
    kernel.table.renew(kernel.now)
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    assert (sorted(kernel.table.workers), kernel.sent) == ([1, 2], [])


@pytest.mark.parametrize("seed", range(200))
def test_any_sequence_of_events_repeats_no_signal_and_ends_in_time(seed: int) -> None:
    """Random orders of readiness, death, SIGHUP and time; then SIGTERM, after which workers end when they like."""
    rng = random.Random(seed)
    kernel = Kernel(rng.randint(1, 4))
    table = kernel.table
    table.begin(kernel.now)
    kernel.all_ready()
    for _ in range(rng.randint(0, 60)):
        pids = list(table.workers)
        match rng.choice(["ready", "ready", "died", "renew", "tick"]):
            case "ready" if pids:
                table.ready(rng.choice(pids), kernel.now)
            case "died" if pids:
                pid = rng.choice(pids)
                killed = (pid, KILL) in kernel.sent
                table.died(pid, -KILL if killed else rng.choice([0, 1, -11]), kernel.now)
            case "renew":
                table.renew(kernel.now)
            case _:
                kernel.tick(rng.choice([0.1, 1.0, 20.0]))
    started, stopped = kernel.started, kernel.now
    table.stop(kernel.now)
    while not table.ended:
        for pid in [pid for pid in table.workers if rng.random() < 0.1 or (pid, KILL) in kernel.sent]:
            table.died(pid, 0, kernel.now)
        if rng.random() < 0.1:
            table.renew(kernel.now)
        kernel.tick(0.25)
        assert kernel.now <= stopped + DRAIN + KILL_DELAY + 1.0, f"seed {seed}"
    assert kernel.started == started, f"seed {seed}: started after the stop"
    assert max(Counter(kernel.sent).values(), default=1) == 1, f"seed {seed}: signalled twice"
    order = {number: state for state, number in SIGNAL_OF.items()}
    for pid in {pid for pid, _ in kernel.sent}:
        states = [order[number] for each, number in kernel.sent if each == pid]
        assert states == sorted(states), f"seed {seed}: {pid} went back"


@pytest.mark.parametrize("seed", range(200))
def test_any_sequence_of_events_ends_with_all_workers_accepting(seed: int) -> None:
    """Random events from the start on; then every worker that gets a signal ends, and each new one becomes ready."""
    rng = random.Random(seed)
    kernel = Kernel(rng.randint(1, 4))
    table = kernel.table
    table.begin(kernel.now)
    processes = kernel.started

    def reap() -> None:
        for pid in [pid for pid in table.workers if (pid, TERM) in kernel.sent or (pid, KILL) in kernel.sent]:
            table.died(pid, 0, kernel.now)

    for _ in range(rng.randint(0, 60)):
        pids = list(table.workers)
        match rng.choice(["ready", "ready", "died", "renew", "tick", "reap"]):
            case "ready" if pids:
                table.ready(rng.choice(pids), kernel.now)
            case "died" if pids:
                pid = rng.choice(pids)
                # A worker that fails while the daemon is incomplete ends the daemon.
                table.died(pid, -KILL if not table.complete else rng.choice([0, 1, -11]), kernel.now)
            case "renew":
                table.renew(kernel.now)
            case "reap":
                reap()
            case _:
                kernel.tick(rng.choice([0.1, 1.0, 20.0]))
    for _ in range(4 * processes):
        kernel.all_ready()
        reap()
        kernel.tick(SHORT_LIFE)
    assert [each.state for each in table.workers.values()] == [State.READY] * processes, f"seed {seed}"
    assert table.complete, f"seed {seed}"


def test_sighup_during_the_start_leaves_the_daemon_complete() -> None:
    """It was never announced otherwise, and a worker that failed later ended the daemon."""
    kernel = Kernel(2)
    kernel.table.begin(kernel.now)
    kernel.table.ready(1, kernel.now)
    kernel.table.renew(kernel.now)
    kernel.all_ready()
    kernel.all_ready()
    assert kernel.table.complete


def test_every_state_but_the_first_two_has_a_signal() -> None:
    assert SIGNAL_OF.keys() == set(State) - {State.STARTING, State.READY}
