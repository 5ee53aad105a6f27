"""The part of the soak test in which system calls fail, for some seconds."""

from __future__ import annotations

import pytest

from soak.failures import CASES, Outcome, play


@pytest.mark.parametrize(("kind", "engine"), [("fork", "forks"), ("epoll", "loop")])
def test_requests_are_answered_while_calls_fail(kind: str, engine: str) -> None:
    outcome = play(kind, engine, 2.0)
    assert outcome.fault == ""
    assert outcome.answered > 1


def test_every_engine_has_a_case() -> None:
    assert {engine for _, engine in CASES} == {"one", "threads", "forks", "pool", "loop"}


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (Outcome(5, 5, 5, 9, 9), ""),
        (Outcome(5, 4, 5, 9, 9), "1 of 5 requests were not answered"),
        (Outcome(5, 5, 4, 9, 9), "5 requests, but 4 access lines"),
        (Outcome(5, 5, 5, 9, 10), "10 open descriptors, after 9 before"),
    ],
)
def test_broken_promise_is_reported(outcome: Outcome, fault: str) -> None:
    assert outcome.fault == fault
