"""Consistency of the benchmarks' declarations, and their conclusions from samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import chapter7
from benchmarks.contestants import CONTESTANTS, Side
from benchmarks.generator import Sample
from benchmarks.loads import LOADS, Measurement
from benchmarks.report import END, picture, record
from benchmarks.rounds import Results
from benchmarks.rows import GRID, ROWS, Row, cells
from benchmarks.svg import Panel, Point, Style, charts
from benchmarks.tools import pinned_version
from benchmarks.verdicts import judge
from benchmarks.web import JSON_RPC, XML_RPC

BEST_OF_TWO = Row("wsgi", "hello", "gunicorn waitress", 4.0)


def measured(rate: float, cpu: float, errors: int) -> Measurement:
    return Measurement("http", 64, 1, 1.0, 1, rate, 0, 0.0, errors, 0, 0, 0, None, 1.0, 1.0, 1.0, cpu)


def sample(rate: float, server_cpu: float = 1.0, load_cpu: float = 0.5, errors: int = 0) -> Sample:
    return Sample(measured(rate, load_cpu, errors), server_cpu, 0.0)


def results(**samples: list[Sample | None]) -> Results:
    found = Results()
    for name, rounds in samples.items():
        found.samples["hello", name] = rounds
    return found


def test_every_named_server_is_declared() -> None:
    assert GRID.keys() == LOADS.keys()
    for load, names in GRID.items():
        assert set(names.split()) <= CONTESTANTS.keys()
        assert LOADS[load].reference in names.split()
    for row in ROWS:
        assert {row.ours, *row.rivals} <= set(GRID[row.load].split())
        assert CONTESTANTS[row.ours].side is Side.OURS


def test_each_peer_is_pinned() -> None:
    assert all(pinned_version(package) for one in CONTESTANTS.values() for package in one.packages)


def test_selected_server_selects_those_it_is_compared_with() -> None:
    assert cells("^wsgi hello$", bars_only=True) == {"hello": ["wsgi", "gunicorn", "waitress", "cheroot"]}


def test_best_contestant_of_each_round_counts() -> None:
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


def test_only_responses_with_the_sum_are_right() -> None:
    assert JSON_RPC.right(b'{"jsonrpc": "2.0", "id": 1, "result": 8}')
    assert not JSON_RPC.right(b'{"jsonrpc": "2.0", "id": 1, "result": 9}')
    assert not JSON_RPC.right(b"8")
    assert not JSON_RPC.right(b"hello")
    whole = b"<methodResponse><params><param><value><int>%d</int></value></param></params></methodResponse>"
    assert XML_RPC.right(whole % 8)
    assert not XML_RPC.right(whole % 9)
    assert not XML_RPC.right(b"hello")


# --- pictures --------------------------------------------------------------------------------------


SVG = "{http://www.w3.org/2000/svg}"


def chapter(*names: str) -> Results:
    """Return example results of chapter 7, including starved clients."""
    found = Results()
    for load, servers in chapter7.cells(None, quick=False).items():
        for name in names:
            if name in servers:
                found.samples[load, name] = [sample(1000.0)]
    return found


def titles(drawn: str) -> list[str | None]:
    """Return the titles of the lines, each a group.  Raises ElementTree.ParseError for malformed SVG."""
    return [group.findtext(f"{SVG}title") for group in ElementTree.fromstring(drawn).iter(f"{SVG}g")]


def test_chapter_7_asks_each_server_as_many_times_as_it_can_take() -> None:
    asked = chapter7.cells(None, quick=False)
    assert chapter7.SERVERS.keys() <= CONTESTANTS.keys()
    assert asked["persistent 128"] == list(chapter7.SERVERS)
    assert "forks" not in asked["persistent 256"]
    assert set(chapter7.cells(None, quick=True)) < set(asked)
    assert chapter7.cells("^loop persistent 8$", quick=False) == {"persistent 8": ["loop"]}


def test_each_picture_of_chapter_7_has_a_line_for_each_server() -> None:
    drawn = chapter7.pictures(chapter(*chapter7.SERVERS))
    everybody = [style.name for style in chapter7.SERVERS.values()]
    assert titles(drawn[chapter7.THROUGHPUT]) == everybody * 2
    assert titles(drawn[chapter7.LATENCY]) == everybody * 4


def test_server_without_samples_has_no_marks_in_a_valid_picture() -> None:
    drawn = chapter7.pictures(chapter("loop"))[chapter7.THROUGHPUT]
    loop, one = (
        next(group for group in ElementTree.fromstring(drawn).iter(f"{SVG}g") if group.findtext(f"{SVG}title") == name)
        for name in ("loop", "one")
    )
    assert len(loop.findall(f"{SVG}path")) == 1 + len(chapter7.CLIENTS)
    assert not one.findall(f"{SVG}path")
    assert titles(chapter7.pictures(Results())[chapter7.LATENCY]) == []


def test_labels_are_text_and_zero_latency_can_be_drawn() -> None:
    panel = Panel("p < q & r", "ms", {"<loop>": [Point(1, 0.0, hollow=True), Point(1024, 2e7)]}, logarithmic=True)
    drawn = charts("a & b", [Style("<loop>", "blue", "circle")], [panel], columns=1, height=200, hollow="h")
    words = [text.text for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
    assert {"a & b", "p < q & r", "<loop>", "1024", "clients", "h"} <= set(words)
    assert titles(drawn) == ["<loop>"]


def test_tables_of_chapter_7_mark_starved_clients() -> None:
    found = chapter("one", "loop")
    first = found.samples["persistent 4", "one"][0]
    assert first is not None
    starved = dataclasses.replace(first, measured=dataclasses.replace(first.measured, starved=3))
    found.samples["persistent 4", "one"] = [starved]
    said = chapter7.whole(found, {"cpu": "any"}, "how")
    assert said.count("1,000°") == 1
    assert said.count("°") == 2  # and in the explanation below the table
    assert "forks" not in said


def test_the_tables_are_drawn_as_bars() -> None:
    drawn = ElementTree.fromstring(picture(results(wsgi=[sample(40)], gunicorn=[sample(10)], waitress=[None])))
    bars = [bar.get("class") for bar in drawn.iter(f"{SVG}rect")]
    assert bars == ["page", "blue", "grey"]
    assert "4.00" in [text.text for text in drawn.iter(f"{SVG}text")]


def test_figures_are_put_between_their_marks_or_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{chapter7.BEGIN}\nold\n{END}\n\nafter\n")
    record("new", page, chapter7.BEGIN)
    assert page.read_text() == f"before\n\n{chapter7.BEGIN}\n\nnew\n\n{END}\n\nafter\n"
    page.write_text("nothing")
    with pytest.raises(SystemExit, match=r"page\.md has lost its place for the figures"):
        record("new", page, chapter7.BEGIN)


def test_chapter_7_has_its_place_for_the_figures() -> None:
    page = Path(__file__).parents[1] / "docs" / "chapter-7.md"
    assert page.read_text("utf-8").count(chapter7.BEGIN) == 1
