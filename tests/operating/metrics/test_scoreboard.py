"""The scoreboard: layout, ownership of slots, and exact counts."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.operating.metrics import stats
from daemons.operating.metrics.scoreboard import Scoreboard
from daemons.operating.metrics.slot import BOUNDS, PAGE, SIZE, Slot
from daemons.operating.metrics.stats import Figures
from daemons.serving.conversation.endings import Ending, Refusal
from tests.operating.counting import ABOUT, conversation, in_child


def sums(found: Figures) -> tuple[int, int, int]:
    return found.messages, found.received, found.sent


# --- one process -------------------------------------------------------------------------------------


def test_a_slot_fits_its_page_with_room_to_spare() -> None:
    assert SIZE * 8 <= 4096 <= PAGE


@pytest.mark.parametrize("ending", list(Ending))
def test_every_ending_is_counted_once_by_its_word(scoreboard: Scoreboard, slot: Slot, ending: Ending) -> None:
    slot.accept()
    ended = conversation(ending, 3, 60, 70)
    slot.end(ended)
    slot.end(ended)
    found = stats.figures(scoreboard)
    assert {word: number for word, number in found.endings.items() if number} == {ending.value: 1}
    assert (found.accepted, found.active, found.ended, sums(found)) == (1, 0, 1, (3, 60, 70))
    assert found.durations[-1] == (float("inf"), 1)


def test_a_refusal_is_counted_by_its_reason(scoreboard: Scoreboard, slot: Slot) -> None:
    for reason in (*(refusal.value for refusal in Refusal), "", "of another guard"):
        refused = conversation(Ending.REFUSED)
        refused.reason = reason
        slot.end(refused)
    found = stats.figures(scoreboard)
    assert found.refused == {refusal.value: 1 for refusal in Refusal}
    assert found.endings["refused"] == len(Refusal) + 2


def test_durations_are_classed_by_upper_bounds(
    scoreboard: Scoreboard, slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds in (0.0, *BOUNDS, 1e9):
        ended = conversation(Ending.DONE)
        ended.opened = 0.0
        monkeypatch.setattr("time.monotonic", lambda seconds=seconds: seconds)
        slot.end(ended)
    found = stats.figures(scoreboard)
    assert [number for _, number in found.durations] == [*range(2, len(BOUNDS) + 2), len(BOUNDS) + 2]
    assert found.seconds == pytest.approx(sum(BOUNDS) + 1e9)


def test_a_raw_handler_has_no_messages(scoreboard: Scoreboard, slot: Slot) -> None:
    lasting = conversation(None, None)
    slot.count_open([lasting])
    slot.end(lasting)
    assert sums(stats.figures(scoreboard)) == (0, 0, 0)


@given(
    steps=st.lists(
        st.one_of(
            st.just("tell"), st.tuples(st.integers(0, 2), st.integers(0, 99), st.integers(0, 9)), st.integers(0, 2)
        ),
        max_size=40,
    )
)
def test_sums_never_go_back_and_nothing_is_counted_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object]
) -> None:
    """Messages, counts of open conversations, and endings in any order."""
    scoreboard = Scoreboard.create(tmp_path_factory.mktemp("run") / "x.metrics", ABOUT)
    slot = scoreboard.claim("worker")
    under_way = [conversation() for _ in range(3)]
    total = [0, 0]
    before = (0, 0, 0)
    try:
        for step in steps:
            if step == "tell":
                slot.count_open(under_way)
            elif isinstance(step, tuple):
                which, octets, messages = step
                one = under_way[which]
                if one.ending is None:
                    one.received += octets
                    one.sent += octets
                    one.messages = (one.messages or 0) + messages
                    total = [total[0] + messages, total[1] + octets]
            elif isinstance(step, int):
                under_way[step].ending = Ending.DONE
                slot.end(under_way[step])
            now = sums(stats.figures(scoreboard))
            assert all(new >= old for new, old in zip(now, before, strict=True))
            before = now
        slot.count_open(under_way)
        assert sums(stats.figures(scoreboard)) == (total[0], total[1], total[1])
    finally:
        slot.close()
        scoreboard.close()


# --- several processes -------------------------------------------------------------------------------


def test_two_processes_write_words_of_their_own(scoreboard: Scoreboard, slot: Slot) -> None:
    def count() -> None:
        own = scoreboard.claim("worker")
        for _ in range(1000):
            own.accept()
            own.end(conversation(Ending.DONE, 1, 2, 3))

    pid = os.fork()
    if pid == 0:
        try:
            count()
        finally:
            os._exit(0)
    for _ in range(1000):
        slot.accept()
        slot.end(conversation(Ending.CUT, 1, 2, 3))
    os.waitpid(pid, 0)
    found = stats.figures(scoreboard)
    assert (found.accepted, found.active, sums(found)) == (2000, 0, (2000, 4000, 6000))
    assert (found.endings["done"], found.endings["cut"]) == (1000, 1000)


def test_counts_of_a_killed_process_stay_in_its_reused_slot(scoreboard: Scoreboard, slot: Slot) -> None:
    def count() -> None:
        own = scoreboard.claim("worker")
        for _ in range(3):
            own.accept()
        own.end(conversation(Ending.DONE, 5, 6, 7))

    for times in (1, 2, 3):
        in_child(count, signal.SIGKILL)
        found = stats.figures(scoreboard)
        assert (found.accepted, found.active, found.lost, found.ended) == (3 * times, 0, 2 * times, times)
        assert sums(found) == (5 * times, 6 * times, 7 * times)
        assert [process.pid for process in found.processes] == [os.getpid()]
    assert os.fstat(scoreboard.descriptor).st_size == 3 * PAGE


def test_a_conversation_handed_to_a_child_is_one(scoreboard: Scoreboard, slot: Slot) -> None:
    slot.accept()
    slot.hand_off()
    assert stats.figures(scoreboard).active == 0

    def serve() -> None:
        own = scoreboard.claim("child")
        own.take_over()
        assert stats.figures(scoreboard).active == 1
        own.end(conversation(Ending.DONE, 1, 1, 1))

    in_child(serve)
    found = stats.figures(scoreboard)
    assert (found.accepted, found.active, found.lost, found.ended) == (1, 0, 0, 1)


def test_heartbeat_of_a_worker_changes_with_each_beat(scoreboard: Scoreboard) -> None:
    def work() -> None:
        scoreboard.claim("child").beat(2000.0)

    worker = scoreboard.claim("worker")
    in_child(work)
    worker.beat(1000.0)
    first = scoreboard.heartbeats()
    worker.beat(1001.0)
    second = scoreboard.heartbeats()
    assert first.keys() == second.keys() == {os.getpid()}
    assert first != second
    worker.close()


def test_heartbeat_of_a_reused_pid_is_the_latest(scoreboard: Scoreboard) -> None:
    slots = [scoreboard.claim("worker", first) for first in (1, 2, 3)]  # three slots with the same pid
    for slot, beat in zip(slots, (0.5, 1e6, 999.0), strict=True):
        slot.beat(beat)
    found = scoreboard.heartbeats()
    slots[1].beat(1e6 + 1)
    assert scoreboard.heartbeats()[os.getpid()] > found[os.getpid()]
    for slot in slots:
        slot.close()


def test_reading_takes_no_slot_away(scoreboard: Scoreboard, slot: Slot, metrics_file: Path) -> None:
    """The kernel releases all locks of a process when it closes any descriptor of the file."""
    for _ in range(3):
        in_child(lambda: scoreboard.claim("worker").accept())
        stats.figures(scoreboard)
    read, write = os.pipe()

    def tell() -> None:
        os.write(write, stats.read(metrics_file).state.encode())

    in_child(tell)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "running"


def test_a_second_daemon_of_the_name_leaves_the_file_alone(
    scoreboard: Scoreboard, slot: Slot, metrics_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def second() -> None:
        with caplog.at_level(logging.INFO):
            other = Scoreboard.create(metrics_file, ABOUT)
        assert [record.levelname for record in caplog.records] == ["INFO"]
        assert "another daemon of this name is running; `daemons stats` shows that one" in caplog.text
        own = other.claim("worker")
        own.accept()
        os._exit(17 if stats.figures(other).accepted == 1 else 1)

    pid = os.fork()
    if pid == 0:
        try:
            second()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 17
    assert stats.figures(scoreboard).accepted == 0


def test_metrics_file_is_for_its_owner_alone(scoreboard: Scoreboard, metrics_file: Path) -> None:
    """Every process that can open a file can lock it: flock(2) and read locks of fcntl(2)."""
    assert metrics_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_claim_ends_where_another_process_has_locked_the_whole_file(
    scoreboard: Scoreboard, metrics_file: Path, kind: int
) -> None:
    with Locked(metrics_file, kind):
        slot = scoreboard.claim("worker")
        slot.accept()
        assert stats.figures(scoreboard).accepted == 1
        slot.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_that_cannot_be_read_is_replaced_unless_a_daemon_counts_in_it(
    metrics_file: Path,
) -> None:
    """A file of root in a folder of the user."""
    metrics_file.parent.mkdir()
    metrics_file.write_bytes(b"\0" * 3 * PAGE)
    with Locked(metrics_file, fcntl.LOCK_EX):
        metrics_file.chmod(0)
        taken = Scoreboard.create(metrics_file, ABOUT)
        assert not taken.copied
        taken.close()
    free = Scoreboard.create(metrics_file, ABOUT)
    assert free.copied
    free.close()


class Locked:
    """A file with a lock of a child process on every byte."""

    def __init__(self, path: Path, kind: int) -> None:
        locked, self._done = os.pipe()
        wait, self._go = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                descriptor = os.open(path, os.O_RDWR)
                fcntl.lockf(descriptor, kind)
                os.write(self._done, b"x")
                os.close(self._go)
                os.read(wait, 1)
            finally:
                os._exit(0)
        os.close(wait)
        os.read(locked, 1)
        os.close(locked)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        os.close(self._go)
        os.close(self._done)
        os.waitpid(self._pid, 0)


def test_without_a_file_it_counts_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    scoreboard = Scoreboard.create(tmp_path / "run" / "x.metrics", ABOUT)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "`daemons stats` cannot show this daemon" in caplog.text
    slot = scoreboard.claim("worker")
    slot.accept()
    assert stats.figures(scoreboard).active == 1
    slot.close()
    scoreboard.close()
