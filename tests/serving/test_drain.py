"""Deadlines of a daemon that stops."""

from __future__ import annotations

import math

from daemons.serving.drain import AFTER_CUT, QUEUE_SHARE, Drain

NOW = 1000.0


def begun(timeout: float) -> Drain:
    drain = Drain()
    drain.begin(NOW, timeout)
    return drain


def test_nothing_is_due_before_the_drain_begins() -> None:
    drain = Drain()
    assert not drain.begun
    assert drain.queue_until == drain.patience(NOW) == math.inf
    assert not drain.must_cut(NOW)
    assert not drain.must_end(NOW)


def test_queues_are_taken_for_a_part_of_the_time() -> None:
    drain = begun(8.0)
    assert drain.begun
    assert drain.queue_until == NOW + 8.0 * QUEUE_SHARE
    assert drain.patience(NOW + 3.0) == 5.0


def test_second_call_can_only_shorten_the_time() -> None:
    drain = begun(8.0)
    drain.begin(NOW, 60.0)
    assert not drain.must_cut(NOW + 7.9)
    drain.begin(NOW + 1.0, 0.0)
    assert drain.queue_until == NOW + 1.0
    assert drain.must_cut(NOW + 1.0)


def test_daemon_ends_some_time_after_the_first_cut() -> None:
    drain = begun(8.0)
    assert not drain.must_end(NOW + 60.0)  # nothing has been cut
    cut = NOW + 9.0
    assert drain.must_cut(cut)
    assert drain.must_cut(cut + AFTER_CUT / 2)
    assert 0.0 < drain.patience(cut) < AFTER_CUT
    assert not drain.must_end(cut + AFTER_CUT / 2)
    assert drain.must_end(cut + AFTER_CUT)


def test_call_after_the_cut_does_not_extend_the_time() -> None:
    drain = begun(0.0)
    assert drain.must_cut(NOW)
    drain.begin(NOW + 0.5, 8.0)
    assert drain.must_end(NOW + AFTER_CUT)
