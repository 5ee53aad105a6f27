"""Starts of workers: limits, failures of fork(2), and renewals."""

from __future__ import annotations

from daemons.serving.engines.worker import (
    FIRST_START_LIMIT,
    SHORT_LIFE,
    START_LIMIT,
)
from tests.serving.engines.worker_kernel import KILL, TERM, WorkerKernel


def test_the_daemon_is_complete_when_all_workers_are_ready() -> None:
    kernel = WorkerKernel(2)
    kernel.begin()
    kernel.ready(1)
    assert not kernel.table.complete
    kernel.ready(2)
    assert kernel.table.complete


def test_dead_worker_is_replaced_later_if_fork_fails(kernel: WorkerKernel) -> None:
    kernel.now += 2 * SHORT_LIFE
    kernel.fails = True
    kernel.died(1, -9)
    kernel.tick(0)
    assert (sorted(kernel.table.workers), kernel.table.ended) == ([2], False)
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    assert sorted(kernel.table.workers) == [2, 3]


def test_renewal_leaves_the_old_workers_if_fork_fails(kernel: WorkerKernel) -> None:
    kernel.fails = True
    kernel.renew()
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    assert (sorted(kernel.table.workers), kernel.sent) == ([1, 2], [])


def test_sighup_during_the_start_leaves_the_daemon_complete() -> None:
    """It was never announced otherwise, and a worker that failed later ended the daemon."""
    kernel = WorkerKernel(2)
    kernel.begin()
    kernel.ready(1)
    kernel.renew()
    kernel.all_ready()
    kernel.all_ready()
    assert kernel.table.complete


def test_worker_that_is_never_ready_at_the_first_start_ends_the_daemon() -> None:
    kernel = WorkerKernel(2)
    kernel.begin()
    kernel.ready(1)
    kernel.tick(FIRST_START_LIMIT)
    assert kernel.sent == [(2, KILL), (1, TERM)]
    for pid in (1, 2):
        kernel.died(pid, -KILL)
    assert (kernel.table.ended, kernel.table.code, kernel.started) == (True, 1, 2)


def test_replacement_that_is_never_ready_is_killed_and_replaced(kernel: WorkerKernel) -> None:
    kernel.tick(2 * SHORT_LIFE)
    kernel.died(1, -11)
    kernel.tick(0)
    kernel.tick(FIRST_START_LIMIT)
    assert kernel.sent == [(3, KILL)]
    kernel.died(3, -KILL)
    kernel.tick(0)
    assert (sorted(kernel.table.workers), kernel.restarts) == ([2, 4], 2)


def test_worker_that_fails_after_it_was_ready_does_not_end_a_daemon_that_still_starts() -> None:
    kernel = WorkerKernel(2)
    kernel.begin()
    kernel.ready(1)
    kernel.died(1, 1)
    kernel.tick(SHORT_LIFE)
    assert (sorted(kernel.table.workers), kernel.table.code) == ([2, 3], 0)


def test_first_start_is_repeated_if_fork_fails() -> None:
    kernel = WorkerKernel(2)
    kernel.fails = True
    kernel.begin()
    assert not kernel.table.ended
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    kernel.all_ready()
    assert kernel.table.complete
    assert kernel.log == ["worker could not be started: Resource temporarily unavailable; next attempt in 1 s"] * 2


def test_successor_that_cannot_be_forked_is_replaced_if_the_old_worker_has_died(kernel: WorkerKernel) -> None:
    kernel.tick(SHORT_LIFE)
    kernel.table.renew(kernel.now)
    kernel.table.died(1, -9, kernel.now)
    kernel.fails = True
    kernel.act()
    kernel.fails = False
    kernel.tick(SHORT_LIFE)
    assert sorted(kernel.table.workers) == [2, 3]


def test_starting_worker_is_not_killed_if_this_process_was_stopped_too(kernel: WorkerKernel) -> None:
    kernel.renew()
    kernel.now += 3600.0
    kernel.tick(START_LIMIT - 1.0)
    assert kernel.sent == []


def test_renewal_waits_while_as_many_old_workers_drain_as_serve(kernel: WorkerKernel) -> None:
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
    kernel = WorkerKernel(3)
    kernel.begin()
    kernel.all_ready()
    kernel.renew()
    kernel.died(1, -9)
    kernel.died(4, -9)
    for _ in range(4):
        kernel.tick(SHORT_LIFE)
        kernel.all_ready()
    assert [pid for pid, _ in kernel.sent] == [2, 3]


def test_stop_revokes_a_start(kernel: WorkerKernel) -> None:
    kernel.table.renew(kernel.now)
    kernel.table.stop(kernel.now)
    kernel.act()
    assert kernel.started == 2
