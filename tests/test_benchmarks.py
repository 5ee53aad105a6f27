"""What the benchmarks declare fits together, and what they conclude from samples."""

from __future__ import annotations

import pytest

from benchmarks.contestants import CONTESTANTS, Side
from benchmarks.generator import Sample
from benchmarks.loads import LOADS, Heard
from benchmarks.rounds import Results
from benchmarks.rows import GRID, ROWS, Row, cells
from benchmarks.tools import pinned_version
from benchmarks.verdicts import judge
from benchmarks.web import JSON_RPC, XML_RPC

BEST_OF_TWO = Row("wsgi", "hello", "gunicorn waitress", 4.0)


def heard(rate: float, cpu: float, errors: int) -> Heard:
    return Heard("http", 64, 1, 1.0, 1, rate, 0, 0.0, errors, 0, 0, 0, None, 1.0, 1.0, 1.0, cpu)


def sample(rate: float, server_cpu: float = 1.0, load_cpu: float = 0.5, errors: int = 0) -> Sample:
    return Sample(heard(rate, load_cpu, errors), server_cpu, 0.0)


def results(**samples: list[Sample | None]) -> Results:
    found = Results()
    for name, rounds in samples.items():
        found.samples["hello", name] = rounds
    return found


def test_whoever_is_named_is_declared() -> None:
    assert GRID.keys() == LOADS.keys()
    for load, names in GRID.items():
        assert set(names.split()) <= CONTESTANTS.keys()
        assert LOADS[load].reference in names.split()
    for row in ROWS:
        assert {row.ours, *row.rivals} <= set(GRID[row.load].split())
        assert CONTESTANTS[row.ours].side is Side.OURS


def test_each_peer_is_pinned() -> None:
    assert all(pinned_version(package) for one in CONTESTANTS.values() for package in one.packages)


def test_who_is_chosen_brings_along_all_whom_it_is_compared_with() -> None:
    assert cells("^wsgi hello$", bars_only=True) == {"hello": ["wsgi", "gunicorn", "waitress", "cheroot"]}


def test_of_several_the_best_of_each_round_counts() -> None:
    found = judge(
        results(
            wsgi=[sample(40), sample(40), sample(40)],
            gunicorn=[sample(10), sample(4), None],
            waitress=[sample(5), sample(8), sample(2)],
        ),
        BEST_OF_TWO,
    )
    assert (found.lowest, found.ratio, found.highest) == (4.0, 5.0, 20.0)
    assert found.word == "met"


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        (sample(39), sample(10), "missed"),
        (sample(50, errors=1), sample(10), "faulty"),
        (sample(50), sample(10, server_cpu=0.7, load_cpu=0.99), "generator-bound"),
        (None, sample(10), "not measured"),
    ],
)
def test_verdicts(ours: Sample | None, theirs: Sample, word: str) -> None:
    assert judge(results(wsgi=[ours], gunicorn=[sample(1)], waitress=[theirs]), BEST_OF_TWO).word == word


def test_sums_are_told_from_what_is_none() -> None:
    assert JSON_RPC.right(b'{"jsonrpc": "2.0", "id": 1, "result": 8}')
    assert not JSON_RPC.right(b'{"jsonrpc": "2.0", "id": 1, "result": 9}')
    assert not JSON_RPC.right(b"8")
    assert not JSON_RPC.right(b"hello")
    whole = b"<methodResponse><params><param><value><int>%d</int></value></param></params></methodResponse>"
    assert XML_RPC.right(whole % 8)
    assert not XML_RPC.right(whole % 9)
    assert not XML_RPC.right(b"hello")
