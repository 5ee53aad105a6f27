"""All shipped daemons under one supervisord: each runs, answers its client, and logs the conversation."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.end_to_end.project import Project
from tests.operating.live import until


@pytest.fixture
def whole() -> Iterator[Project]:
    project = Project(whole=True)
    try:
        yield project
    finally:
        project.end()


def test_every_daemon_runs_and_answers_and_stops(whole: Project) -> None:
    listed = whole.run().stdout
    status = whole.supervisorctl("status").stdout
    asked = {}
    for name in whole.ports:
        assert re.search(rf"^{name} +RUNNING ", status, re.MULTILINE), status
        assert re.search(rf"^{name} .*(:{whole.ports[name]}\b|unix:)", listed, re.MULTILINE), listed
        asked[name] = whole.type_in("daemons", "ask", name)
    assert {name: ended.stderr for name, ended in asked.items() if ended.returncode or ended.stderr} == {}
    for name in whole.ports:
        until(lambda name=name: whole.access(name), f"the line of {name}'s visitor")  # type: ignore[misc]
    assert asked["sixteen"].stdout == "Farewell, client\n"
    assert whole.type_in("make", "stop").returncode == 0
    assert whole.processes == []
