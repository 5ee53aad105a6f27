"""The check of histories: acknowledged operations are kept, once each, in the order of their times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soak.history import History


class Clock:
    """A clock that advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def history_of(*events: str) -> History:
    """Return a history of events such as ``invoke a``, ``ack a``, ``refuse a`` and ``crash worker``."""
    history = History(Clock())
    for event in events:
        verb, _, name = event.partition(" ")
        if verb == "invoke":
            history.invoke(name)
        elif verb == "crash":
            history.crash(name)
        else:
            history.answer(name, acknowledged=verb == "ack")
    return history


@pytest.mark.parametrize(
    ("events", "stored", "violation"),
    [
        (["invoke a", "ack a"], ["a"], "None"),
        (["invoke a", "ack a"], [], "'a' (invoked at 1.000 s, acknowledged at 2.000 s) is not stored"),
        (
            ["invoke a", "crash worker 7", "ack a", "crash worker 8"],
            [],
            "'a' (invoked at 1.000 s, acknowledged at 3.000 s; nearest crash: worker 7 at 2.000 s) is not stored",
        ),
        (["invoke a", "refuse a"], [], "None"),
        (["invoke a", "refuse a"], ["a"], "None"),  # it may have been written before the failure
        (["invoke a"], ["a"], "None"),
        (["invoke a"], [], "None"),
        (["invoke a"], ["a", "a"], "'a' (invoked at 1.000 s, without an answer) is stored 2 times"),
        ([], ["a"], "'a' is stored, but was never invoked"),
        (["invoke a", "invoke b", "ack a", "ack b"], ["b", "a"], "None"),
        (
            ["invoke a", "ack a", "invoke b", "ack b"],
            ["b", "a"],
            "'a' (invoked at 1.000 s, acknowledged at 2.000 s) is stored behind 'b' (invoked at 3.000 s, acknowledged "
            "at 4.000 s), which was invoked later",
        ),
        (
            ["invoke a", "ack a", "invoke b", "ack b"],
            [],
            "'a' (invoked at 1.000 s, acknowledged at 2.000 s) is not stored",
        ),
    ],
)
def test_first_violation_is_named(events: list[str], stored: list[str], violation: str) -> None:
    assert str(history_of(*events).first_violation(stored)) == violation


def test_a_key_is_used_once() -> None:
    with pytest.raises(ValueError, match="'a' was invoked before"):
        history_of("invoke a", "invoke a")


@given(st.integers(1, 20), st.data())
def test_each_way_to_damage_a_correct_store_is_found(count: int, data: st.DataObject) -> None:
    keys = [f"payment {number}" for number in range(count)]
    history = history_of(*(event for key in keys for event in (f"invoke {key}", f"ack {key}")))
    assert history.first_violation(keys) is None
    at = data.draw(st.integers(0, count - 1))
    assert history.first_violation(keys[:at] + keys[at + 1 :]) is not None
    assert history.first_violation([*keys, keys[at]]) is not None
    assert history.first_violation([*keys, "payment x"]) is not None
    if at:
        swapped = [*keys[: at - 1], keys[at], keys[at - 1], *keys[at + 1 :]]
        assert history.first_violation(swapped) is not None
