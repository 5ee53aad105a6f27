"""Closed or unread standard streams: a daemon serves, and a command fails cleanly."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, end_all, talk, type_in, until


@pytest.fixture
def suite(folder: Folder) -> Iterator[Folder]:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    yield folder
    end_all(folder.path)


def without(closed: str) -> tuple[str, ...]:
    """``daemons``, started with streams closed."""
    return "bash", "-c", f'exec daemons "$@" {closed}', "-"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_daemon_runs_without_them(suite: Folder, closed: str) -> None:
    with Live(suite.path, "launcelot", command=without(closed)) as daemon:
        assert talk(daemon.port) == GRAIL
        # The numbers of the standard streams are theirs: no listener, no file has one.
        pid = daemon.process.pid
        targets = [os.readlink(f"/proc/{pid}/fd/{descriptor}") for descriptor in (0, 1, 2)]
        assert [targets[0], targets[1] if ">" in closed else "/dev/null"] == ["/dev/null", "/dev/null"]
        assert not any(target.startswith("socket:") for target in targets)
        assert daemon.stop() == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_daemon_detaches_without_them(suite: Folder, closed: str) -> None:
    started = type_in(suite.path, *without(closed), "run", "launcelot", "--detach")
    assert started.returncode == 0
    log = suite.path / "logs" / "launcelot.detached.log"
    ready = until(
        lambda: log.exists() and re.search(r"ready tcp://127\.0\.0\.1:(\d+) ", log.read_text()), "the ready line"
    )
    assert ready
    assert talk(int(ready[1])) == GRAIL
    stopped = type_in(suite.path, *without(closed), "stop", "launcelot")
    assert stopped.returncode == 0
    # The counts of a daemon that has ended can still be read.
    assert [path.name for path in (suite.path / "run").iterdir()] == ["launcelot.metrics"]


@pytest.mark.parametrize("words", ["list", "show launcelot", "check", "--help"])
def test_closed_pipe_is_not_reported(suite: Folder, words: str) -> None:
    ended = type_in(suite.path, "bash", "-c", f"daemons {words} | head -c 0")
    assert (ended.stdout, ended.stderr) == ("", "")


def test_a_hangup_ends_no_daemon(suite: Folder) -> None:
    with Live(suite.path, "launcelot") as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        assert talk(daemon.port) == GRAIL
        assert daemon.process.poll() is None


def test_the_folder_it_was_started_in_may_go(suite: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere: Path = tmp_path_factory.mktemp("elsewhere")
    with Live(elsewhere, "launcelot", "--conf", str(suite.conf)) as daemon:
        elsewhere.rmdir()
        assert talk(daemon.port) == GRAIL
