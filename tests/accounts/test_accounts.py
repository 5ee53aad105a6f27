"""Verification of names and passwords: verdicts, costs and caches."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event, get_ident

import pytest

from daemons.accounts import ACCEPTED, BUSY, REFUSED, Accounts, Verdict, accounts, hashes, throttle, verifier
from daemons.accounts.hashes import Cost
from daemons.accounts.throttle import NAMED, Rate
from tests.accounts.files import CHEAP, write_lines, write_secret, write_users
from tests.operating.live import until

PEER = "192.0.2.7"

#: Secrets that must not be in a log or a table.
PASSWORD = "of the Britons: canary"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_users(tmp_path / "users", Arthur=PASSWORD, Zoë="café")
    return tmp_path / "users"


class Computations:
    """The scrypt computations: their costs, and the threads that have made them.  While `held`, they wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.costs: list[Cost] = []
        self.threads: set[int] = set()
        self.begun = 0
        self._free = Event()
        self._free.set()
        scrypt = hashes._scrypt

        def counted(password: bytes, salt: bytes, cost: Cost, size: int) -> bytes:
            self.begun += 1
            assert self._free.wait(20)
            self.costs.append(cost)
            self.threads.add(get_ident())
            return scrypt(password, salt, cost, size)

        monkeypatch.setattr(hashes, "_scrypt", counted)

    def hold(self, stack: ExitStack) -> None:
        self._free.clear()
        stack.callback(self._free.set)

    def release(self) -> None:
        self._free.set()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Computations:
    return Computations(monkeypatch)


@pytest.fixture
def _unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAMED", "PEER", "ALL"):
        monkeypatch.setattr(throttle, name, Rate(10**6, 1e-6))


def test_right_password_is_accepted_and_all_others_are_refused(path: Path) -> None:
    kept = Accounts(str(path))
    assert kept.check("Arthur", PASSWORD, PEER) == Verdict(ACCEPTED, "Arthur")
    assert kept.check("Zoe\u0308", "cafe\u0301", PEER) == Verdict(ACCEPTED, "Zo\u00eb")
    for name, password in (
        ("Arthur", PASSWORD[:-1]),
        ("Arthur", ""),
        ("arthur", PASSWORD),
        ("Robin", PASSWORD),
        ("", ""),
        ("Arthur\0", PASSWORD),
        ("Arthur", "\ud800"),
        ("\ud800", PASSWORD),
    ):
        assert kept.check(name, password, PEER) == Verdict(REFUSED)


def test_random_secret_is_accepted_and_computes_no_scrypt(tmp_path: Path, computed: Computations) -> None:
    secret = write_secret(tmp_path / "users")
    kept = Accounts(str(tmp_path / "users"))
    assert not kept.slow
    assert kept.check("robin", secret, PEER) == Verdict(ACCEPTED, "robin")
    assert kept.check("robin", secret + "x", PEER) == kept.check("galahad", secret, PEER) == Verdict(REFUSED)
    assert computed.costs == []


@pytest.mark.parametrize(("name", "password"), [("x" * 257, "x"), ("Arthur", "x" * 257), ("Arthur", "\u0301" * 6000)])
def test_longer_name_or_password_than_any_users_is_refused_before_any_work(
    path: Path, computed: Computations, name: str, password: str
) -> None:
    assert Accounts(str(path)).check(name, password, PEER) == Verdict(REFUSED)
    assert computed.costs == []


def test_unknown_user_costs_as_much_as_a_wrong_password(path: Path, computed: Computations) -> None:
    kept = Accounts(str(path))
    for name in ("Arthur", "Robin", "Arthur", "Robin"):
        kept.check(name, "x", PEER)
    assert computed.costs == [CHEAP] * 4


@pytest.mark.usefixtures("_unthrottled")
def test_costs_of_a_file_do_not_tell_which_names_exist(tmp_path: Path, computed: Computations) -> None:
    """An unknown name has the cost of some user, always the same one, and all costs occur."""
    lines = [f"{cost.n}:{hashes.hash_password('x', cost)}" for cost in (CHEAP, Cost(4, 1, 1))]
    write_lines(tmp_path / "users", *lines)
    kept = Accounts(str(tmp_path / "users"))
    found = []
    for number in range(40):
        computed.costs.clear()
        kept.check(f"stranger {number}", "x", PEER)
        kept.check(f"stranger {number}", "y", PEER)
        assert computed.costs[0] == computed.costs[1]
        found.append(computed.costs[0])
    assert set(found) == {CHEAP, Cost(4, 1, 1)}


def test_verified_credentials_are_remembered_until_the_file_changes(path: Path, computed: Computations) -> None:
    kept = Accounts(str(path))
    assert [kept.check("Arthur", PASSWORD, PEER).outcome for _ in range(3)] == [ACCEPTED] * 3
    assert len(computed.costs) == 1
    assert kept.check("Arthur", "x", PEER).outcome is REFUSED
    assert b"canary" not in b"".join(kept._verified)
    write_users(path, Arthur="another")
    assert kept.check("Arthur", PASSWORD, PEER).outcome is REFUSED
    assert kept.check("Arthur", "another", PEER).outcome is ACCEPTED


def test_verified_credentials_are_bounded_and_forgotten_when_unused(
    path: Path, computed: Computations, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Accounts(str(path))
    monkeypatch.setattr(accounts, "REMEMBERED", 1)
    for name, password in (("Arthur", PASSWORD), ("Zo\u00eb", "caf\u00e9"), ("Arthur", PASSWORD)):
        assert kept.check(name, password, PEER).outcome is ACCEPTED
    assert (len(kept._verified), len(computed.costs)) == (1, 3)
    monkeypatch.setattr(accounts, "IDLE", 0.0)
    kept.check("Arthur", PASSWORD, PEER)
    assert len(computed.costs) == 4


def test_guesses_are_throttled_by_name_and_peer_but_cached_users_are_not(path: Path) -> None:
    kept = Accounts(str(path))
    assert kept.check("Zo\u00eb", "caf\u00e9", PEER).outcome is ACCEPTED
    guesses = [kept.check("Arthur", str(number), "2001:db8::1").outcome for number in range(NAMED.burst + 3)]
    assert guesses == [REFUSED] * NAMED.burst + [BUSY] * 3
    busy = kept.check("Arthur", PASSWORD, "2001:db8::2")
    assert busy.outcome is BUSY
    assert 1 <= busy.retry_after <= NAMED.interval
    assert kept.check("Robin", "x", "2001:db8::3").outcome is REFUSED
    assert kept.check("Arthur", PASSWORD, PEER).outcome is ACCEPTED
    for _ in range(3 * NAMED.burst):
        assert kept.check("Arthur", PASSWORD, "2001:db8::1").outcome is ACCEPTED


def test_unknown_names_are_throttled_as_known_ones(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "ALL", Rate(10**6, 1e-6))
    kept = Accounts(str(path))
    for name in ("Arthur", "Robin"):
        outcomes = [kept.check(name, "the same", name).outcome for _ in range(NAMED.burst + 2)]
        assert outcomes == [REFUSED] * NAMED.burst + [BUSY] * 2


@pytest.mark.usefixtures("_unthrottled")
def test_a_bounded_number_of_threads_waits_and_two_compute(path: Path, computed: Computations) -> None:
    kept = Accounts(str(path))
    with ExitStack() as stack:
        computed.hold(stack)
        guessers = stack.enter_context(ThreadPoolExecutor(64))
        stack.callback(computed.release)
        asked = [guessers.submit(kept.check, "Arthur", str(number), str(number)) for number in range(64)]
        # All others are answered while some wait for a computation.
        until(lambda: sum(each.done() for each in asked) == 64 - verifier.WAITING, "the verdicts that need no thread")
        assert {each.result() for each in asked if each.done()} == {Verdict(BUSY, retry_after=1)}
        assert computed.begun == verifier.THREADS
        computed.release()
        outcomes = [each.result().outcome for each in asked]
    assert (outcomes.count(REFUSED), outcomes.count(BUSY)) == (verifier.WAITING, 64 - verifier.WAITING)
    assert len(computed.threads) <= verifier.THREADS


@pytest.mark.usefixtures("_unthrottled")
def test_one_peer_leaves_computations_and_waiting_threads_to_others(path: Path, computed: Computations) -> None:
    kept = Accounts(str(path))
    with ExitStack() as stack:
        computed.hold(stack)
        guessers = stack.enter_context(ThreadPoolExecutor(32))
        stack.callback(computed.release)
        asked = [guessers.submit(kept.check, "Arthur", str(number), f"2001:db8::{number}") for number in range(16)]
        until(lambda: sum(each.done() for each in asked) == 16 - verifier.TASKS_PER_NETWORK, "the refusals")
        honest = guessers.submit(kept.check, "Arthur", PASSWORD, PEER)
        computed.release()
        assert honest.result().outcome is ACCEPTED


def test_same_credentials_on_several_connections_are_computed_once(path: Path, computed: Computations) -> None:
    kept = Accounts(str(path))
    with ExitStack() as stack:
        computed.hold(stack)
        browser = stack.enter_context(ThreadPoolExecutor(6))
        stack.callback(computed.release)
        asked = [browser.submit(kept.check, "Arthur", PASSWORD, PEER) for _ in range(6)]
        until(lambda: verifier.shared._waiters[PEER] == 6, "six that wait")
        computed.release()
        assert {each.result() for each in asked} == {Verdict(ACCEPTED, "Arthur")}
    assert len(computed.costs) == 1


def test_where_no_thread_may_wait_the_verdict_is_given_when_it_is_known(
    path: Path, computed: Computations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier.shared, "waiting", 0)
    kept = Accounts(str(path))
    for password, outcome in ((PASSWORD, ACCEPTED), ("x", REFUSED)):
        with ExitStack() as stack:
            computed.hold(stack)
            for _ in range(3):
                assert kept.check("Arthur", password, PEER) == Verdict(BUSY, retry_after=1)
        until(lambda: not verifier.shared._tasks, "the computation")
        assert kept.check("Arthur", password, PEER).outcome is outcome
    # Each wrong password is counted, also where it is the same.
    assert kept.check("Arthur", "x", PEER).outcome is BUSY


def test_wrong_file_is_busy_until_it_is_corrected(path: Path) -> None:
    kept = Accounts(str(path))
    assert kept.check("Arthur", PASSWORD, PEER).outcome is ACCEPTED
    before = kept.version
    path.unlink()
    assert kept.check("Arthur", PASSWORD, PEER) == Verdict(BUSY, retry_after=60)
    assert kept.version is None
    write_users(path, Arthur=PASSWORD)
    assert kept.check("Arthur", PASSWORD, PEER).outcome is ACCEPTED
    assert kept.version not in (before, None)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("memory limit exceeded")])
def test_password_that_cannot_be_verified_is_not_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*arguments: object) -> bytes:
        raise error

    kept = Accounts(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(hashes, "_scrypt", fail)
        assert kept.check("Arthur", PASSWORD, PEER) == Verdict(BUSY, retry_after=1)
    assert [record.getMessage() for record in caplog.records] == [f"{path}: password could not be verified: {error!r}"]
    assert kept.check("Arthur", PASSWORD, PEER).outcome is ACCEPTED


def test_no_thread_to_be_had_is_busy_and_passes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    kept = Accounts(str(path))
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", start)
        assert kept.check("Arthur", PASSWORD, PEER) == Verdict(BUSY, retry_after=1)
    assert kept.check("Arthur", PASSWORD, PEER).outcome is ACCEPTED
    assert not verifier.shared._tasks
    assert not verifier.shared._running


def test_child_process_verifies_with_threads_of_its_own(path: Path) -> None:
    kept = Accounts(str(path))
    assert kept.check("Arthur", PASSWORD, PEER).outcome is ACCEPTED
    verifier.shared.close()
    if (pid := os.fork()) == 0:
        found = kept.check("Zo\u00eb", "caf\u00e9", PEER).outcome is ACCEPTED
        os._exit(0 if found else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_password_is_in_no_line_of_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    kept = Accounts(str(path))
    for name in ("Arthur", "Robin"):
        for _ in range(NAMED.burst + 1):
            kept.check(name, f"wrong {PASSWORD}", PEER)
    kept.check("Arthur", PASSWORD, "::1")
    path.write_text("wrong")
    kept.check("Arthur", PASSWORD, PEER)
    assert caplog.records
    assert "canary" not in caplog.text
