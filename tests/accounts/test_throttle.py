"""Rate limits on password guessing."""

from __future__ import annotations

import os

import pytest

from daemons.accounts import throttle
from daemons.accounts.throttle import ALL, NAMED, PEER, SETS, WAYS, Rate, Throttle


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_attempts_for_one_name_are_limited_and_allowed_again_with_time() -> None:
    clock = Clock()
    kept = Throttle(clock)
    assert [kept.take("a", "arthur", slow=False) for _ in range(NAMED.burst)] == [0.0] * NAMED.burst
    assert kept.take("a", "arthur", slow=False) == NAMED.interval
    # Other names, and other peers, are not concerned.
    assert kept.take("a", "robin", slow=False) == kept.take("b", "arthur", slow=False) == 0.0
    clock.now += NAMED.interval - 1
    assert kept.take("a", "arthur", slow=False) == 1.0
    clock.now += 1
    assert kept.take("a", "arthur", slow=False) == 0.0
    assert kept.take("a", "arthur", slow=False) == NAMED.interval
    clock.now += 10**6
    assert [kept.take("a", "arthur", slow=False) > 0 for _ in range(NAMED.burst + 1)] == [False] * NAMED.burst + [True]


def test_attempts_of_one_peer_are_limited_over_all_names() -> None:
    kept = Throttle(Clock())
    waits = [kept.take("a", str(number), slow=False) for number in range(PEER.burst + 1)]
    assert waits == [0.0] * PEER.burst + [PEER.interval]
    assert kept.take("b", "0", slow=False) == 0.0


def test_slow_attempts_of_all_peers_are_limited_together() -> None:
    kept = Throttle(Clock())
    waits = [kept.take(str(number), "arthur", slow=True) for number in range(ALL.burst + 1)]
    assert waits == [0.0] * ALL.burst + [ALL.interval]
    assert kept.take("other", "arthur", slow=False) == 0.0


def test_successful_attempt_is_given_back() -> None:
    kept = Throttle(Clock())
    for _ in range(10 * PEER.burst):
        assert kept.take("a", "arthur", slow=False) == 0.0
        kept.give_back("a", "arthur")
    assert [kept.take("a", "arthur", slow=False) for _ in range(NAMED.burst + 1)] == [0.0] * NAMED.burst + [
        NAMED.interval
    ]


def test_table_does_not_grow_and_keeps_those_that_guess_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "PEER", Rate(10**6, 0.001))
    kept = Throttle(Clock())
    size = len(kept._table)
    for _ in range(NAMED.burst):
        kept.take("a", "arthur", slow=False)
    for number in range(4 * SETS * WAYS):
        kept.take("b", str(number), slow=False)
    assert len(kept._table) == size
    assert kept.take("a", "arthur", slow=False) > 0


def test_attempts_in_child_processes_are_counted_together() -> None:
    kept = Throttle()
    for _ in range(NAMED.burst):
        if (pid := os.fork()) == 0:
            os._exit(0 if kept.take("a", "arthur", slow=False) == 0.0 else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert kept.take("a", "arthur", slow=False) > 0
