"""A project's folder for each test, and a process left as it was found."""

from __future__ import annotations

import http.server  # noqa: F401  # imported once for all: modules of ours that stay know its classes
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.operating.logging.logs import LineFormatter
from daemons.operating.metrics.scoreboard import Scoreboard
from daemons.operating.metrics.slot import Slot
from daemons.serving.guards import wait_limit
from tests.operating.counting import ABOUT
from tests.operating.folder import Folder
from tests.operating.writes import Writes


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty project."""
    return Folder(tmp_path)


@pytest.fixture
def metrics_file(tmp_path: Path) -> Path:
    return tmp_path / "run" / "x.metrics"


@pytest.fixture
def scoreboard(metrics_file: Path) -> Iterator[Scoreboard]:
    made = Scoreboard.create(metrics_file, ABOUT)
    yield made
    made.close()


@pytest.fixture
def slot(scoreboard: Scoreboard) -> Iterator[Slot]:
    claimed = scoreboard.claim("worker")
    yield claimed
    claimed.close()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    """Make a `Writes` the root logger's only handler, in place of Output, the only class with a direct path."""
    monkeypatch.setattr("daemons.operating.logging.lines.Output", Writes)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    output = Writes()
    output.setFormatter(LineFormatter("%(levelname)s %(name)s %(message)s"))
    root.handlers[:] = [output]
    root.setLevel(logging.INFO)
    yield output
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    """Restore the state that a command changes in its process: modules, paths, loggers, working folder, wait limit."""
    where, path, modules = Path.cwd(), sys.path[:], set(sys.modules)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    os.chdir(where)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) is None or not name.startswith(("daemons", "tests")):
            del sys.modules[name]
    root.handlers[:] = handlers
    root.setLevel(level)
    wait_limit.PROCESS.threads = wait_limit.DEFAULT
