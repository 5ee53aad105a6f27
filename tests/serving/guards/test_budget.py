"""The memory budget of a process: which connections are read from, paused and closed."""

from __future__ import annotations

import gc
import threading

import pytest

from daemons.serving.guards.budget import SMALL, Budget, Verdict

KIB = 1024
MIB = 1024**2


@pytest.fixture
def budget() -> Budget:
    return Budget(8 * MIB)


def test_an_owner_is_charged_its_last_size_and_nothing_once_released(budget: Budget) -> None:
    assert budget.charge("one", 100)
    assert budget.charge("two", 50)
    assert budget.charge("one", 30)
    assert budget.held == 80
    budget.release("one")
    budget.release("one")
    assert budget.held == 50
    budget.charge("two", 0)
    assert budget.held == 0
    assert budget._sizes == {}


def test_owner_beyond_the_limit_is_refused_and_counted(budget: Budget) -> None:
    assert budget.charge("one", 8 * MIB)
    assert not budget.charge("two", 1)
    budget.refuse("two")
    assert (budget.held, budget.refusals) == (8 * MIB, 1)


def test_beyond_half_of_the_budget_only_the_oldest_and_small_messages_are_read(budget: Budget) -> None:
    assert budget.hold("oldest", 2 * MIB) == (Verdict.GO, [])
    assert budget.hold("second", 2 * MIB) == (Verdict.GO, [])
    assert budget.hold("third", MIB) == (Verdict.WAIT, [])
    assert budget.hold("small", SMALL) == (Verdict.GO, [])
    assert budget.hold("second", 2 * MIB + KIB) == (Verdict.WAIT, [])
    assert budget.hold("oldest", 3 * MIB) == (Verdict.GO, [])
    assert budget.waits == 2
    assert not budget.may_read("second")
    budget.release("oldest")
    assert budget.may_read("second")


def test_each_message_in_turn_becomes_the_oldest(budget: Budget) -> None:
    for name in ("one", "two", "three", "four"):
        budget.hold(name, MIB + SMALL)
    for name in ("one", "two", "three"):
        assert budget.oldest == name
        assert budget.hold(name, 2 * MIB)[0] is Verdict.GO
        budget.release(name)
    assert budget.oldest == "four"


def test_a_reply_under_way_does_not_count_as_the_oldest_message(budget: Budget) -> None:
    budget.hold("writer", 5 * MIB, writing=True)
    budget.hold("reader", MIB)
    assert budget.oldest == "reader"
    assert budget.hold("reader", 2 * MIB)[0] is Verdict.GO


def test_beyond_the_budget_the_connection_longest_without_progress_is_closed(budget: Budget) -> None:
    for name in ("one", "two", "three", "four"):
        budget.hold(name, 2 * MIB, writing=True)
    budget.hold("one", 2 * MIB - 1, writing=True)  # it has made progress
    verdict, closed = budget.hold("five", 3 * MIB, writing=True)
    assert (verdict, closed) == (Verdict.GO, ["two", "three"])
    assert budget.refusals == 2
    assert budget.held <= budget.limit


def test_a_connection_that_waits_for_room_is_not_closed_before_those_that_wait_for_their_peer(budget: Budget) -> None:
    budget.hold("oldest", 3 * MIB)
    assert budget.hold("waiting", 2 * MIB)[0] is Verdict.WAIT
    budget.hold("never-reader", 2 * MIB, writing=True)
    assert budget.hold("new", 2 * MIB, writing=True) == (Verdict.GO, ["oldest"])


def test_only_a_message_larger_than_the_budget_is_refused(budget: Budget) -> None:
    budget.hold("small", KIB)
    assert budget.hold("huge", 8 * MIB + 1) == (Verdict.REFUSE, [])
    assert budget.held == KIB


def test_when_only_others_than_connections_hold_bytes_the_oldest_waits_and_the_newer_are_refused(
    budget: Budget,
) -> None:
    budget.charge("handler", 8 * MIB)
    assert budget.hold("oldest", KIB) == (Verdict.WAIT, [])
    assert budget.hold("newer", KIB) == (Verdict.REFUSE, [])
    assert not budget.may_read("oldest")
    budget.release("handler")
    assert budget.may_read("oldest")


def test_the_newest_of_those_that_wait_give_way_to_the_oldest_message(budget: Budget) -> None:
    budget.hold("oldest", 2 * MIB)
    for name in ("second", "third", "fourth"):
        budget.hold(name, 3 * MIB // 2)
    assert budget.hold("oldest", 4 * MIB) == (Verdict.GO, ["second"])  # which had room, and waits for its peer
    assert budget.hold("oldest", 6 * MIB) == (Verdict.GO, ["fourth"])
    assert budget.hold("oldest", 8 * MIB) == (Verdict.GO, ["third"])
    assert budget.hold("oldest", 8 * MIB + 1) == (Verdict.REFUSE, [])


def test_a_pinned_connection_stays_charged_and_is_never_closed(budget: Budget) -> None:
    budget.hold("one", 5 * MIB)
    budget.pin("one")
    assert budget.hold("two", 5 * MIB) == (Verdict.WAIT, [])
    assert budget.held == 10 * MIB
    budget.hold("one", 0)
    assert budget.may_read("two")
    assert budget.held == 5 * MIB


def test_the_oldest_message_stays_the_oldest_while_a_worker_reads_it(budget: Budget) -> None:
    for name in ("oldest", "second"):
        budget.hold(name, 2 * MIB + KIB)
    budget.pin("oldest")
    assert not budget.may_read("second")
    assert budget.hold("oldest", 3 * MIB) == (Verdict.GO, [])
    assert budget.oldest == "oldest"


def test_a_slow_service_does_not_keep_other_messages_waiting(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("oldest", "second"):
        budget.hold(name, 2 * MIB + KIB)
    monkeypatch.setattr("daemons.serving.guards.budget.PINNED", 0.0)
    budget.pin("oldest")
    assert budget.oldest == "second"
    assert budget.may_read("second")


def test_message_after_an_answered_message_is_the_newest(budget: Budget) -> None:
    """Otherwise a peer that never pauses would stay the oldest, and all others would wait for it."""
    for name in ("pipeline", "second"):
        budget.hold(name, 2 * MIB + KIB)
    budget.complete("pipeline")
    assert budget.hold("pipeline", MIB) == (Verdict.GO, [])
    budget.hold("pipeline", 2 * MIB)
    assert budget.oldest == "second"


class Owner:
    """Releases itself when the garbage collector ends it."""

    def __init__(self, budget: Budget) -> None:
        self._cycle, self._budget = self, budget

    def __del__(self) -> None:
        self._budget.release("owner")


def test_an_owner_that_ends_by_garbage_collection_meanwhile_is_released(budget: Budget) -> None:
    """It waited for the lock that its own thread had."""

    class Collecting(str):
        __slots__ = ()

        def __hash__(self) -> int:
            gc.collect()
            return super().__hash__()

    budget.charge("owner", MIB)
    Owner(budget)
    thread = threading.Thread(target=budget.charge, args=(Collecting("another"), KIB), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert budget.held == KIB


def test_a_child_process_begins_with_nothing_held(budget: Budget) -> None:
    budget.charge("one", MIB)
    budget.reset()
    assert (budget.held, budget.limit) == (0, 8 * MIB)


def test_charges_from_many_threads_add_up(budget: Budget) -> None:
    def work(name: int) -> None:
        for size in range(1, 2000):
            budget.charge(name, size)
        budget.release(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.held == 0
