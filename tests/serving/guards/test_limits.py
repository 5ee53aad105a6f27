"""How many may come, and how long they may take: counted with a clock of the test's own."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.serving.guards.limits import ConnectionCounter, Limits, TokenBucket
from daemons.settings.values import kind_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_second_s_worth_may_come_at_once_and_then_one_at_a_time() -> None:
    clock = Clock()
    rate = TokenBucket(4.0, clock)
    for _ in range(4):
        assert rate.wait() == 0.0
        rate.take()
    assert rate.wait() == pytest.approx(0.25)
    clock.now += 0.25
    assert rate.wait() == 0.0
    rate.take()
    assert rate.wait() == pytest.approx(0.25)


def test_a_rate_below_one_a_second_lets_the_first_come_at_once() -> None:
    clock = Clock()
    rate = TokenBucket(1 / 3600, clock)
    assert rate.wait() == 0.0
    rate.take()
    assert rate.wait() == pytest.approx(3600)
    clock.now += 1800
    assert rate.wait() == pytest.approx(1800)


def test_negative_balance_is_waited_for() -> None:
    clock = Clock()
    rate = TokenBucket(2.0, clock)
    for _ in range(6):
        rate.take()
    assert rate.wait() == pytest.approx(2.5)


def test_a_long_pause_saves_up_no_more_than_a_second_s_worth() -> None:
    clock = Clock()
    rate = TokenBucket(3.0, clock)
    clock.now += 1_000_000
    for _ in range(3):
        assert rate.wait() == 0.0
        rate.take()
    assert rate.wait() > 0


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 10), max_size=50))
def test_over_any_time_no_more_come_than_the_rate_and_one_second_s_worth(rate: float, pauses: list[float]) -> None:
    clock = Clock()
    bucket, taken, start = TokenBucket(rate, clock), 0, clock.now
    for pause in pauses:
        clock.now += pause
        while bucket.wait() == 0.0 and taken < 10_000:
            bucket.take()
            taken += 1
        assert taken <= max(1.0, rate) + rate * (clock.now - start) + 1e-3


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_counter_counts_each_peer_and_removes_peers_without_connections(comings: list[tuple[str, bool]]) -> None:
    tally, counts = ConnectionCounter(), Counter[str]()
    for peer, enters in comings:
        if enters:
            counts[peer] += 1
            assert tally.enter(peer) == counts[peer]
        elif counts[peer]:
            counts[peer] -= 1
            tally.leave(peer)
    assert tally._counts == +counts


def test_a_peer_that_never_came_may_leave() -> None:
    tally = ConnectionCounter()
    tally.leave("192.0.2.1")
    assert tally.enter("192.0.2.1") == 1


def test_every_deadline_has_its_part_in_the_shortest() -> None:
    names = [field.name for field in dataclasses.fields(Limits) if field.name.endswith("_timeout")]
    assert len(names) == 6
    for name in names:
        limits = Limits(**{name: 0.001})  # type: ignore[arg-type]
        assert limits.shortest == (10.0 if name == "drain_timeout" else 0.001)


def test_default_limits() -> None:
    shown = {field.name: kind_of(field).show(field.default) for field in dataclasses.fields(Limits)}
    assert shown == {
        "max_connections": "auto",
        "max_per_peer": "auto",
        "max_rate": "off",
        "amplification": "1",
        "handshake_timeout": "10s",
        "message_timeout": "30s",
        "receive_buffer": "auto",
        "spool": "off",
        "outbox": "256KiB",
        "body": "auto",
        "held": "256MiB",
        "response": "64MiB",
        "idle_timeout": "5m",
        "write_timeout": "30s",
        "conversation_timeout": "1h",
        "drain_timeout": "8s",
    }
