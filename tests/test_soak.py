"""The soak test: reconciliation of logs and counters, and a run of one second on three daemons."""

from __future__ import annotations

import dataclasses
import random

import pytest

from daemons.operating.metrics.stats import Figures
from daemons.serving.conversation.endings import Ending
from soak import hostile, openings, place, reconcile
from soak.honest import HONEST
from soak.hostile import HOSTILE
from soak.run import Run
from soak.watch import MORE_KIB, Held, complaints
from soak.web import HONEST as WEB
from tests.shipped import SHIPPED

DONE = "2026-11-21 08:44:00,763 INFO daemons.zen.access[7] 127.0.0.1 done messages=3 received=65 sent=64 seconds=0.001"
RAW = (
    "2026-11-21 08:44:00,763 INFO daemons.zen.access[7] 127.0.0.1:4 finished messages=- received=- sent=- seconds=0.001"
)
CUT = (
    "2026-11-21 08:44:00,763 INFO daemons.zen.access[7] 127.0.0.1:4 cut messages=0 received=1 sent=0 seconds=0.001 "
    'reason="the input ended 1 octets into a head"'
)
OTHER = "2026-11-21 08:44:00,763 INFO daemons.operating.reload[7] reloaded; changed: nothing"
READY = "zen ready tcp://127.0.0.1:1070 engine=loop processes=1 pid=7"
DROPPED = "2026-11-21 10:00:00,000 WARNING daemons.operating.logging.logs[4242] dropped lines: 12 (1200 bytes)"

FIGURES = Figures(
    *("zen", "stopped", "loop", 7, 1.0, 2.0, None, 0, 0, 0, {}, 0, 0, 0),
    *({ending.word: 0 for ending in Ending}, 0.0, [], 0, 0, 0, None, []),
)


def complained(*lines: str, kills: int = 0, accepted: int = 0, dropped: int = 0, **endings: int) -> str:
    run = dataclasses.replace(FIGURES, accepted=accepted, dropped_lines=dropped, endings={**FIGURES.endings, **endings})
    return "\n".join(reconcile.complaints("zen", reconcile.read(lines), [run], kills))


def test_every_shipped_daemon_has_honest_and_hostile_visits() -> None:
    shipped = set(SHIPPED)
    assert {visit.daemon for visit in HONEST + WEB} == shipped
    assert {visit.daemon for visit in HOSTILE} == shipped
    assert shipped >= openings.OPENINGS.keys()


def test_counters_that_agree_with_the_log_are_no_complaint() -> None:
    assert complained(READY, DONE, RAW, CUT, OTHER, accepted=3, done=1, finished=1, cut=1) == ""
    assert complained(DROPPED, DONE, accepted=13, dropped=12, done=13) == ""
    assert complained(*[DONE] * 240, kills=1) == ""


@pytest.mark.parametrize(
    ("complaint", "found"),
    [
        ("0 dropped lines", complained(accepted=1, done=1)),
        ("1 log lines with done, but 0 counted", complained(DONE)),
        ("241 log lines with done, but 0 counted", complained(*[DONE] * 241, kills=1)),
        ("12 lines dropped, but 0 reported in the log", complained(dropped=12)),
        ("accepted 2, ended 1", complained(DONE, accepted=2, done=1)),
        ("1 conversations failed", complained(DONE.replace("done", "failed"), accepted=1, failed=1)),
        ("1 tracebacks", complained(OTHER + r"\nTraceback (most recent call last):")),
        ("1 errors", complained(OTHER.replace("INFO", "ERROR"))),
        ("1 lines of unknown format", complained(DONE[:-9])),
    ],
)
def test_each_discrepancy_is_a_complaint(complaint: str, found: str) -> None:
    assert complaint in found


def test_growth_of_each_resource_is_a_complaint() -> None:
    before = Held(1, 17, 9, 20_000)
    assert [*complaints("zen", before, before)] == []
    assert len([*complaints("zen", before, Held(2, 18, 10, 20_001 + MORE_KIB))]) == 4


@pytest.mark.timeout(60)
def test_short_soak_of_three_daemons_finds_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = dict.fromkeys((key for key in place.LIMITS if key.endswith("_timeout")), "600ms")
    monkeypatch.setattr(place, "LIMITS", place.LIMITS | deadlines)
    monkeypatch.setattr(hostile, "LONGEST_DEADLINE", 0.6)
    monkeypatch.setattr(hostile, "HANGING_SECONDS", 20.0)
    where = place.Place(["launcelot", "echo", "sixteen"])
    run = Run(where, random.Random(3), rate=40.0, deadline=20.0)
    try:
        run.whole(1.0)
    finally:
        run.load.stop()
        where.end()
    assert run.faults() == []
    assert not where.path.exists()
