"""The states of workers after their start: signals, deadlines, and workers that are stuck."""

from __future__ import annotations

import random
from collections import Counter

from daemons.serving.engines.worker import (
    ABANDON,
    KILL_DELAY,
    SHORT_LIFE,
    SIGNAL_OF,
    START_LIMIT,
    STUCK,
    State,
)
from tests.serving.engines.worker_kernel import CUT, DRAIN, KILL, TERM, WorkerKernel


def test_a_worker_that_drains_for_its_successor_is_not_signalled_again_by_a_stop(kernel: WorkerKernel) -> None:
    kernel.renew()
    kernel.ready(3)
    assert kernel.sent == [(1, TERM)]
    kernel.stop()
    assert Counter(kernel.sent) == {(pid, TERM): 1 for pid in (1, 2, 3, 4)}


def test_no_worker_is_started_after_a_stop(kernel: WorkerKernel) -> None:
    kernel.renew()
    kernel.stop()
    kernel.ready(3)
    kernel.renew()
    kernel.died(3, 0)
    kernel.died(1, -9)
    kernel.tick(SHORT_LIFE)
    assert kernel.started == 3


def test_a_worker_that_does_not_end_is_cut_then_killed(kernel: WorkerKernel) -> None:
    kernel.stop()
    kernel.tick(DRAIN)
    assert kernel.sent[2:] == [(1, CUT), (2, CUT)]
    kernel.tick(KILL_DELAY)
    assert kernel.sent[4:] == [(1, KILL), (2, KILL)]
    kernel.tick(ABANDON)
    assert kernel.table.ended  # though neither has been reaped: the daemon does not wait for uninterruptible I/O


def test_a_retired_worker_that_does_not_end_is_killed_though_the_daemon_goes_on(kernel: WorkerKernel) -> None:
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


def test_a_successor_that_is_never_ready_is_killed_and_the_old_workers_stay(kernel: WorkerKernel) -> None:
    kernel.renew()
    kernel.tick(START_LIMIT)
    assert kernel.sent == [(3, KILL)]
    kernel.died(3, -KILL)
    kernel.tick(START_LIMIT)
    assert sorted(kernel.table.workers) == [1, 2]
    assert kernel.started == 3


def test_a_successor_that_is_killed_for_being_slow_is_replaced_if_the_old_worker_has_died() -> None:
    kernel = WorkerKernel(1)
    kernel.begin()
    kernel.all_ready()
    kernel.renew()
    kernel.died(1, -11)
    kernel.tick(START_LIMIT)
    kernel.died(2, -KILL)
    kernel.tick(0)
    assert sorted(kernel.table.workers) == [3]


def test_a_repeated_stop_cuts_each_worker_once(kernel: WorkerKernel) -> None:
    kernel.stop()
    kernel.cut()
    kernel.cut()
    assert Counter(kernel.sent) == {(pid, number): 1 for pid in (1, 2) for number in (TERM, CUT)}


def test_a_second_stop_can_only_shorten_the_time(kernel: WorkerKernel) -> None:
    kernel.stop(1.0)
    kernel.stop(DRAIN)
    kernel.tick(1.0)
    assert [number for _, number in kernel.sent] == [TERM, TERM, CUT, CUT]


def test_any_sequence_of_events_repeats_no_signal_and_ends_in_time() -> None:
    """Some random sequences; tests/simulation has thousands, with the parent process around the table."""
    for seed in range(20):
        expect_order(seed)


def expect_order(seed: int) -> None:
    """Random orders of readiness, death, SIGHUP and time; then SIGTERM, after which workers end when they like."""
    rng = random.Random(seed)
    kernel = WorkerKernel(rng.randint(1, 4))
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


def test_every_state_but_the_first_two_has_a_signal() -> None:
    assert SIGNAL_OF.keys() == set(State) - {State.STARTING, State.READY}


# --- stuck workers -----------------------------------------------------------------------------------


def test_worker_without_a_turn_is_cut_then_killed_and_replaced(kernel: WorkerKernel) -> None:
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
    kernel = WorkerKernel(1)
    kernel.begin()
    kernel.turned(1)
    kernel.tick(1.0)
    kernel.ready(1)
    kernel.tick(STUCK)
    assert kernel.sent == [(1, CUT)]


def test_workers_without_turns_are_not_stuck_if_this_process_was_stopped_too(kernel: WorkerKernel) -> None:
    kernel.turned(1, 2)
    kernel.now += 3600.0
    kernel.tick(0)
    kernel.tick(STUCK / 2)
    assert kernel.sent == []
    kernel.tick(STUCK)
    assert kernel.sent[:2] == [(1, CUT), (2, CUT)]


def test_killed_worker_is_not_abandoned_if_this_process_was_stopped_too(kernel: WorkerKernel) -> None:
    kernel.cut()
    kernel.tick(KILL_DELAY)
    kernel.now += 3600.0
    kernel.tick(ABANDON / 2)
    assert len(kernel.table.workers) == 2


def test_worker_that_drains_is_never_stuck(kernel: WorkerKernel) -> None:
    kernel.table.drain_timeout = 100.0
    kernel.turned(1, 2)
    kernel.stop()
    kernel.tick(3 * STUCK)
    assert kernel.sent == [(1, TERM), (2, TERM)]


def test_signal_is_not_sent_to_a_worker_that_was_reaped_meanwhile(kernel: WorkerKernel) -> None:
    kernel.table.stop(kernel.now)
    kernel.table.died(1, 0, kernel.now)
    kernel.act()
    assert kernel.sent == [(2, TERM)]
