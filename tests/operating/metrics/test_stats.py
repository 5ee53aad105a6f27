"""Statistics from a scoreboard, also of a daemon that has ended, and from foreign files."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.cli import stats_report
from daemons.operating.metrics import stats
from daemons.operating.metrics.scoreboard import HEAD, Scoreboard
from daemons.operating.metrics.slot import PAGE, SIZE, Slot
from daemons.operating.metrics.stats import UnreadableError
from tests.operating.counting import ABOUT, in_child


def test_state_distinguishes_stop_from_death(metrics_file: Path) -> None:
    def stopped() -> None:
        Scoreboard.create(metrics_file, ABOUT).claim("worker").stop()

    in_child(stopped)
    assert stats.read(metrics_file).state == "stopped"

    def killed() -> None:
        slot = Scoreboard.create(metrics_file, ABOUT).claim("worker")
        slot.accept()
        slot.beat(time.monotonic())

    in_child(killed, signal.SIGKILL)
    found = stats.read(metrics_file)
    assert (found.state, found.silent, found.lost, found.processes) == ("dead", None, 1, [])


def test_process_without_heartbeat_hangs(scoreboard: Scoreboard, slot: Slot) -> None:
    slot.beat(time.monotonic() - 60.0)
    found = stats.figures(scoreboard)
    assert found.state == "hanging"
    assert 60.0 <= (found.silent or 0.0) < 70.0
    assert "hanging" in stats_report.as_text(found)


def _broken(page: bytes, size: int = 2 * PAGE) -> bytes:
    return page.ljust(size, b"\0")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a daemon's scoreboard"),
        (b"#!/bin/sh\necho this is the file of another program, and long enough\n", "not a daemon's scoreboard"),
        (_broken(HEAD.pack(b"camelot\0", 99, 0, 0)), "format 99, but 1 is expected; written by another release"),
        (_broken(HEAD.pack(b"camelot\0", 1, 50, 7)), "damaged: its checksum is wrong"),
        (_broken(HEAD.pack(b"camelot\0", 1, 1 << 60, 7)), "damaged: its checksum is wrong"),
        (_broken(HEAD.pack(b"camelot\0", 1, 0, 0)), "not a daemon's scoreboard (JSONDecodeError)"),
        (_broken(HEAD.pack(b"camelot\0", 1, 2, 0xA3B83BDD) + b"{}"), "damaged: its checksum is wrong"),
    ],
)
def test_foreign_file_is_an_error(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "x.metrics"
    path.write_bytes(content)
    with pytest.raises(UnreadableError) as error:
        stats.read(path)
    assert str(error.value).startswith(f"{path}: {complaint}")


@pytest.mark.parametrize("size", [PAGE // 2, PAGE, PAGE + 8, 2 * PAGE - 1])
def test_a_file_that_was_cut_is_an_error(metrics_file: Path, size: int) -> None:
    in_child(lambda: Scoreboard.create(metrics_file, ABOUT).claim("worker").stop())
    os.truncate(metrics_file, size)
    with pytest.raises(UnreadableError, match="damaged: "):
        stats.read(metrics_file)


@given(st.data())
def test_any_wrong_byte_gives_figures_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")
    scoreboard = Scoreboard.create(folder / "x.metrics", ABOUT)
    scoreboard.claim("worker").close()
    scoreboard.close()
    content = bytearray((folder / "x.metrics").read_bytes())
    place = data.draw(st.one_of(st.integers(0, 800), st.integers(PAGE, PAGE + SIZE * 8 - 1)))
    content[place] ^= data.draw(st.integers(1, 255))
    (folder / "x.metrics").write_bytes(content)
    try:
        found = stats.read(folder / "x.metrics")
    except UnreadableError:
        return
    stats_report.as_text(found)
    json.dumps(stats_report.as_dict(found), allow_nan=place >= PAGE)


def test_no_file_says_that_it_has_not_run(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="no such file; the daemon has not run yet"):
        stats.read(tmp_path / "x.metrics")


def test_the_json_keys_are_those_of_the_documentation(scoreboard: Scoreboard, slot: Slot) -> None:
    values = stats_report.as_dict(stats.figures(scoreboard))
    page = Path("docs/metrics.md").read_text("utf-8")
    assert [key for key in (*values, *values["processes"][0]) if f"`{key}`" not in page] == []
