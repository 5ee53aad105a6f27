"""The programs of docs/conversations.md, as they are written there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemons import Service
from daemons.serving.pump import Pump
from tests.serving.conftest import within as within
from tests.serving.peers import ask, connect, eventually, hear, hear_all
from tests.serving.running import Within

Start = Callable[..., Within]

PAGE = (Path(__file__).parents[1] / "docs" / "conversations.md").read_text("utf-8")
PROGRAMS = dict(re.findall(r"^`(\w+)\.py`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))

ENGINES = pytest.mark.parametrize("engine", ["threads", "pool", "loop"])


def program(name: str) -> Service:
    """Return the service of a program."""
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(PROGRAMS[name], f"{name}.py", "exec"), namespace)
    (kind,) = [
        each
        for each in namespace.values()
        if isinstance(each, type) and issubclass(each, Service) and each is not Service
    ]
    service: Service = kind()
    return service


def test_each_program_is_short_and_tested() -> None:
    assert PROGRAMS.keys() == {"room", "pair", "count", "nap", "ticker"}
    for text in PROGRAMS.values():
        assert len(text.split("\n\n\n")[1].splitlines()) <= 20


@ENGINES
def test_room(engine: str, within: Start) -> None:
    room: Any = program("room")
    running = within(engine, Pump.for_service(room))
    with connect(running.address) as one, connect(running.address) as two:
        eventually(lambda: len(room.peers) == 2)
        one.sendall(b"hello\n")
        hear(one, b"hello\n")
        hear(two, b"hello\n")


@ENGINES
def test_pair(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(program("pair")))
    with connect(running.address) as one, connect(running.address) as two:
        ask(one, b"Arthur\n", b"What is your name?\nPlease wait.\n")
        ask(two, b"Patsy\n", b"What is your name?\nMeet Arthur\n")
        assert hear_all(one) == b"Meet Patsy\n"


@ENGINES
def test_count_and_nap(engine: str, within: Start, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("one two three")
    running = within(engine, Pump.for_service(program("count")))
    with connect(running.address) as peer:
        ask(peer, f"{tmp_path}/x\n".encode(), b"3 words\n")
    running = within(engine, Pump.for_service(program("nap")))
    with connect(running.address) as peer:
        ask(peer, b"1\n", b"good morning\n")


@ENGINES
def test_ticker(engine: str, within: Start) -> None:
    running = within(engine, Pump.for_service(program("ticker")))
    with connect(running.address) as peer, peer.makefile("rb") as lines:
        assert re.fullmatch(rb"\d\d:\d\d:\d\d\n", lines.readline())
