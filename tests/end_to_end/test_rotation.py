"""Log rotation by supervisord: every line is in exactly one file, complete."""

from __future__ import annotations

import subprocess
import threading

import pytest

from tests.end_to_end.project import ACCESS, Project
from tests.operating.live import GRAIL, READY, talk, until

#: Conversations, and those of each thread.
MANY, EACH = 600, 150


@pytest.mark.timeout(60)
def test_rotation_loses_no_line_and_tears_none(project: Project) -> None:
    project.edit("launcelot", "engine = threads", "engine = threads\nprocesses = 2")
    project.edit_supervision({"stdout_logfile_maxbytes": "8KB", "stdout_logfile_backups": "50"})
    project.edit_supervision({"stdout_logfile_maxbytes": "1KB", "stdout_logfile_backups": "2"}, "zen")
    project.run()
    followed = project.path / "followed"
    with followed.open("wb") as file:
        tail = subprocess.Popen(
            ["tail", "-n", "+1", "-F", "logs/launcelot.log"], cwd=project.path, stdout=file, stderr=subprocess.DEVNULL
        )
    try:
        until(lambda: b" ready " in followed.read_bytes(), "tail's first line")
        wrong: list[bytes] = []

        def visit() -> None:
            wrong.extend(answer for _ in range(EACH) if (answer := talk(project.port)) != GRAIL)

        visitors = [threading.Thread(target=visit) for _ in range(MANY // EACH)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        assert wrong == []

        def lines() -> list[str]:
            files = (project.path / "logs").glob("launcelot.log*")
            return [line for path in files for line in path.read_text("utf-8").splitlines()]

        until(lambda: len(lines()) >= MANY + 1, "every line")
        assert project.supervisorctl("stop", "launcelot").returncode == 0
        peers = [found["peer"] for line in lines() if (found := ACCESS.fullmatch(line))]
        assert len(peers) == MANY
        others = [line for line in lines() if not ACCESS.fullmatch(line)]
        # The ready line, and a line of each of the two workers at the stop.
        assert sum(bool(READY.fullmatch(line)) for line in others) == 1
        assert all(READY.fullmatch(line) or "stopping: " in line for line in others), others
        names = {path.name for path in (project.path / "logs").glob("launcelot.log*")}
        assert {"launcelot.log", "launcelot.log.1", "launcelot.log.2"} <= names
        _only_so_many_old_logs_are_kept(project)
        # `tail -F` goes on with the new file.
        assert project.supervisorctl("start", "launcelot").returncode == 0
        project.until_ready("launcelot")
        ready = READY.findall(project.log())[-1]
        until(lambda: f"pid={ready[-1]}".encode() in followed.read_bytes(), "tail following the new file")
    finally:
        tail.terminate()
        tail.wait()


def _only_so_many_old_logs_are_kept(project: Project) -> None:
    logs = project.path / "logs"
    oldest = logs / "zen.log.2"

    def oldest_after_a_visit() -> str:
        # Under its engine, lines wait up to 250 ms for company, and come in one piece.
        assert talk(project.ports["zen"], b"Simple is better than?") == b"Complex."
        return oldest.read_text("utf-8") if oldest.exists() else ""

    first = until(oldest_after_a_visit, "the second old log")
    until(lambda: oldest_after_a_visit() not in ("", first), "another in its place")
    kept = {"zen.log", "zen.log.1", "zen.log.2"}
    until(lambda: {path.name for path in logs.glob("zen.log*")} == kept, "the end of a rotation")
