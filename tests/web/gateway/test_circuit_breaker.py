"""The circuit breaker by itself: events and times in, states out."""

from __future__ import annotations

import random

from daemons.web.gateway.circuit_breaker import CLOSED, FAILURES, HALF_OPEN, OPEN, PAUSE, CircuitBreaker, Trial

#: The maximum wait for the head of a response, in seconds.
TIMEOUT = 30.0


def opened(now: float = 100.0) -> CircuitBreaker:
    """Return a breaker that has opened at `now`."""
    breaker = CircuitBreaker()
    for _ in range(FAILURES):
        assert breaker.state == CLOSED
        breaker = breaker.fail(now, None)
    assert breaker.state == OPEN
    return breaker


def test_failures_in_a_row_open_it_and_a_complete_response_resets_the_count() -> None:
    breaker = CircuitBreaker()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker = breaker.fail(1.0, None)
        assert (breaker.state, breaker.wait(1.0)) == (CLOSED, 0)
        breaker = breaker.complete()
    assert opened(1.0).wait(1.0) == PAUSE


def test_closed_breaker_begins_no_trial() -> None:
    assert CircuitBreaker().begin(1.0, TIMEOUT, repeatable=True) == (CircuitBreaker(), None)


def test_open_breaker_admits_one_trial_per_pause() -> None:
    breaker = opened(100.0)
    assert breaker.wait(100.0 + PAUSE / 2) == PAUSE / 2
    breaker, trial = breaker.begin(100.0 + PAUSE, TIMEOUT, repeatable=True)
    assert (breaker.state, trial) == (HALF_OPEN, Trial(TIMEOUT, True))
    assert breaker.wait(100.0 + PAUSE) == PAUSE
    # A trial that fails at once does not make the next one earlier.
    breaker = breaker.fail(100.0 + PAUSE, trial)
    assert (breaker.state, breaker.wait(100.0 + PAUSE)) == (OPEN, PAUSE)


def test_trials_beside_a_long_one_are_short_unless_they_cannot_be_repeated() -> None:
    breaker, long = opened(100.0).begin(101.0, TIMEOUT, repeatable=True)
    assert long == Trial(TIMEOUT, True)
    breaker, short = breaker.begin(102.0, TIMEOUT, repeatable=True)
    assert short == Trial(PAUSE, False)
    assert breaker.begin(103.0, TIMEOUT, repeatable=False)[1] == long
    assert breaker.begin(103.0, PAUSE / 2, repeatable=True)[1] == Trial(PAUSE / 2, False)
    # The failure of the short trial does not end the long trial; its own failure does.
    breaker = breaker.fail(103.0, short)
    assert breaker.begin(103.0, TIMEOUT, repeatable=True)[1] == short
    assert breaker.fail(103.0, long).begin(104.0, TIMEOUT, repeatable=True)[1] == long
    # If the long trial is lost with its process, the next is allowed after the timeout.
    assert breaker.begin(101.0 + TIMEOUT, TIMEOUT, repeatable=True)[1] == long


def test_first_response_closes_it_and_a_failure_before_a_complete_one_opens_it_again() -> None:
    breaker, trial = opened(100.0).begin(101.0, TIMEOUT, repeatable=True)
    closed = breaker.respond()
    assert (closed.state, closed.wait(101.0)) == (CLOSED, 0)
    assert closed.fail(102.0, None).state == OPEN
    assert closed.complete().fail(102.0, None).state == CLOSED
    assert trial is not None


def test_failure_of_a_request_sent_before_it_opened_changes_nothing() -> None:
    breaker, _ = opened(100.0).begin(101.0, TIMEOUT, repeatable=True)
    for each in (opened(100.0), breaker):
        assert each.fail(101.5, None) == each
        assert each.abandon(None) == each


def test_abandoned_trial_leaves_it_open() -> None:
    breaker, trial = opened(100.0).begin(101.0, TIMEOUT, repeatable=True)
    breaker = breaker.abandon(trial)
    assert (breaker.state, breaker.wait(101.0)) == (OPEN, PAUSE)
    assert CircuitBreaker().abandon(trial) == CircuitBreaker()


def test_any_sequence_of_events_leaves_it_able_to_recover() -> None:
    random_events = random.Random(20261130)
    for _ in range(200):
        breaker, now, trials = CircuitBreaker(), 0.0, [None]
        for _ in range(50):
            now += random_events.choice((0.0, 0.125, PAUSE, 5.0))
            event = random_events.randrange(5)
            if event == 0 and not breaker.wait(now):
                breaker, trial = breaker.begin(now, TIMEOUT, repeatable=random_events.random() < 0.5)
                trials.append(trial)  # type: ignore[arg-type]
            elif event == 1:
                breaker = breaker.fail(now, random_events.choice(trials))
            elif event == 2:
                breaker = breaker.abandon(random_events.choice(trials))
            elif event == 3:
                breaker = breaker.respond()
            elif random_events.random() < 0.2:
                breaker = breaker.complete()
            assert breaker.wait(now) <= PAUSE
            assert (breaker.state == CLOSED) == (breaker.failures < FAILURES)
        breaker, _ = breaker.begin(now + PAUSE, TIMEOUT, repeatable=True)
        assert breaker.respond().complete() == CircuitBreaker()
