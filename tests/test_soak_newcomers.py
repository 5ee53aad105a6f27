"""The parts of the soak test in which newcomers are measured: their percentiles, and short runs."""

from __future__ import annotations

import math
import random
import re
import socket

import pytest

from soak import full, hangs, kills
from soak.crowd import Crowd
from soak.full import Case, fault
from soak.lone import Lone
from soak.newcomers import Measured, ask_launcelot, percentile, visit
from tests.operating.live import until


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    times = [float(number) for number in range(1, 101)]
    random.Random(1).shuffle(times)
    assert [percentile(times, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50.0, 90.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0
    assert math.isnan(percentile([], 0.5))


CASE = Case("loop", "half", 12_000, 500, 300)


@pytest.mark.parametrize(
    ("before", "found", "broken"),
    [
        ([0.01], Measured(2, [0.1, 0.2]), ""),
        ([0.01], Measured(2, [0.1, 0.4]), "p99 is 400 ms, above 300 ms"),
        ([0.1], Measured(2, [0.1, 0.4]), ""),
        ([0.01], Measured(2, [0.1], ["wrong reply"]), "1 of 2 newcomers were not answered: wrong reply"),
    ],
)
def test_broken_promise_is_reported(before: list[float], found: Measured, broken: str) -> None:
    assert fault(CASE, Measured(1, before), found) == broken


def test_lost_and_wrong_replies_are_told_apart_from_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
    found = visit(ask_launcelot(port), 3, 10.0, pause=0.0)
    assert (found.asked, found.times) == (3, [])
    assert all("refused" in text for text in found.lost)
    assert visit(lambda: False, 2, 10.0).lost == ["wrong reply"] * 2
    assert visit(lambda: True, 2, 10.0, lost_after=-1.0).lost == ["after 0.0 s"] * 2


def test_crowd_is_replaced_and_leaves_with_its_process() -> None:
    with Lone("[daemon]\nservice = launcelot\nport = {port}\n[limits]\nmax_connections = 5\n") as daemon:
        with Crowd("half", daemon.port, 5, 50.0) as crowd:
            assert crowd.wait(20.0)
            assert visit(ask_launcelot(daemon.port), 5, 20.0).lost == []
            until(lambda: daemon.log.count("reason=full") > 5, "replacements to be evicted", 60.0)
        until(lambda: daemon.log.count(" cut ") >= 1, "the crowd to leave", 30.0)
        folder = daemon.folder
    assert not folder.exists()


def test_each_engine_has_a_case_with_each_crowd() -> None:
    assert {(case.engine, case.kind) for case in full.CASES} == {
        (engine, kind) for engine in full.ENGINES for kind in ("half", "pipeline", "never-reader")
    }


@pytest.mark.timeout(120)
def test_short_run_without_a_hang_finds_no_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hangs, "HANG_EVERY", 3600.0)
    assert hangs.play(1.0, processes=3) == []
    # On a busy machine the worker that hangs may be replaced before the end of the run.
    assert re.search("1 hangs, [01] workers replaced, at most [45] processes", capsys.readouterr().out)


@pytest.mark.timeout(180)
def test_daemons_run_again_after_a_kill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kills, "PROCESSES", {"launcelot": 2})
    monkeypatch.setattr(kills, "FREE", 60.0)
    monkeypatch.setattr(kills, "RUNNING", 60.0)
    assert kills.play(1, random.Random(3), 60.0) == []
    assert "1 kills (1 of " in capsys.readouterr().out
