"""`daemons stats` of daemons that run as processes."""

from __future__ import annotations

import json
import mmap
import os
import random
import re
import shutil
import signal
import socket
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemons.operating.metrics import stats
from daemons.operating.metrics.stats import Figures, UnreadableError
from tests.operating.folder import Folder
from tests.operating.live import BIN, QUEST, READY, Live, children, daemons, environment, see_turns, talk, until

ENGINES = ("one", "threads", "forks", "loop", "pool")

ACCESS = re.compile(
    r" (?P<ending>\w+) messages=(?P<messages>\S+) received=(?P<received>\d+) sent=(?P<sent>\d+) seconds="
)


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", "[daemon]\nservice = launcelot\nport = 0\n")
    return folder


def figures(suite: Folder) -> Figures:
    return stats.read(suite.path / "run" / "launcelot.metrics")


def has_messages(suite: Folder, number: int) -> bool:
    return figures(suite).messages == number


def as_json(suite: Folder) -> Any:
    ended = daemons(suite.path, "stats", "launcelot", "--json")
    assert ended.stdout, ended.stderr
    return json.loads(ended.stdout)


def lines(daemon: Live) -> list[re.Match[str]]:
    return list(ACCESS.finditer(daemon.out))


def converse(port: int, kind: int) -> None:
    """Have one conversation, of one of five kinds."""
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.settimeout(20.0)
        if kind == 0:  # done
            peer.sendall(QUEST * 3)
            peer.shutdown(socket.SHUT_WR)
        elif kind == 1:  # cut
            peer.sendall(QUEST + b"What is your")
            peer.shutdown(socket.SHUT_WR)
        elif kind == 2:  # oversize
            peer.sendall(b"x" * 5000)
        elif kind == 3:  # nothing is said
            peer.shutdown(socket.SHUT_WR)
        else:
            peer.sendall(b"?" * 200)
            peer.shutdown(socket.SHUT_WR)
        try:
            while peer.recv(65536):
                pass
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_sums_are_those_of_the_access_log(suite: Folder, engine: str, processes: str) -> None:
    kinds = [number % 5 for number in range(300)]
    random.shuffle(kinds)
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", processes) as daemon:
        with ThreadPoolExecutor(8) as peers:
            list(peers.map(lambda kind: converse(daemon.port, kind), kinds))
        until(lambda: len(lines(daemon)) == 300, "300 access lines")
        until(lambda: figures(suite).ended == 300, "300 ends")
        until(lambda: figures(suite).active == 0, "no connection is left")
        found = figures(suite)
        told = lines(daemon)
        assert (found.accepted, found.ended, found.lost) == (300, 300, 0)
        assert {word: number for word, number in found.endings.items() if number} == Counter(
            line["ending"] for line in told
        )
        assert found.messages == sum(int(line["messages"]) for line in told)
        assert found.received == sum(int(line["received"]) for line in told)
        assert found.sent == sum(int(line["sent"]) for line in told)
        assert found.durations[-1][1] == 300
        assert [each.role for each in found.processes][: int(processes)] == (
            ["worker"] if processes == "1" else ["supervisor", "worker"]
        )
        assert daemon.stop() == 0
    ended = daemons(suite.path, "stats", "launcelot")
    assert ended.returncode == 4
    assert ended.stdout.startswith("launcelot: stopped, engine ")
    assert figures(suite).accepted == 300


@pytest.mark.parametrize("engine", ENGINES)
def test_long_conversation_is_counted_once_while_open(suite: Folder, engine: str) -> None:
    with Live(suite.path, "launcelot", "--engine", engine) as daemon:
        with socket.create_connection(("127.0.0.1", daemon.port)) as peer:
            peer.settimeout(10.0)
            for number in range(1, 4):
                peer.sendall(QUEST)
                assert peer.recv(100)
                until(partial(has_messages, suite, number), f"message {number}")
            # Under forks the parent counts those accepted, and copies its figures once a second.
            until(lambda: (found := figures(suite)).active == found.accepted == 1, "the conversation")
            assert figures(suite).ended == 0
        until(lambda: figures(suite).ended == 1, "the end")
        found = figures(suite)
        assert (found.messages, found.received, found.active) == (3, 3 * len(QUEST), 0)


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_hanging_daemon_is_detected_by_its_heartbeat(suite: Folder, engine: str) -> None:
    with Live(suite.path, "launcelot", "--engine", engine) as daemon:
        assert talk(daemon.port)
        until(lambda: figures(suite).ended == 1, "the end")
        assert as_json(suite)["state"] == "running"
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: (figures(suite).silent or 0.0) > stats.HANGING_AFTER, "it hangs")
            ended = daemons(suite.path, "stats", "launcelot")
            assert ended.returncode == 3
            assert re.match(r"launcelot: hanging, .*, heartbeat \d+\.\d s ago\n", ended.stdout), ended.stdout
            assert as_json(suite)["accepted"] == 1
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        until(lambda: figures(suite).state == "running", "it goes on")


def test_an_idle_daemon_does_not_seem_to_hang(suite: Folder) -> None:
    with Live(suite.path, "launcelot"):
        see_turns(lambda: figures(suite), 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_counts_of_a_killed_worker_are_kept(suite: Folder, engine: str) -> None:
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", "2") as daemon:
        for _ in range(10):
            assert talk(daemon.port)
        until(lambda: figures(suite).ended == 10, "ten ends")
        with socket.create_connection(("127.0.0.1", daemon.port)) as peer:
            peer.settimeout(10.0)
            peer.sendall(QUEST)
            assert peer.recv(100)
            until(lambda: figures(suite).messages == 11, "the eleventh message")
            holder = next(each.pid for each in figures(suite).processes if each.active)
            os.kill(holder, signal.SIGKILL)
            assert peer.recv(100) == b""
        until(lambda: figures(suite).lost == 1, "the conversation is lost")
        if engine != "forks":
            until(lambda: figures(suite).worker_restarts == 1, "the replacement")
            until(lambda: len(figures(suite).processes) == 3, "it is there")
        # The slot of the dead is read while its parent counts it away.
        until(lambda: kept(figures(suite)) == (11, 10, 0, 1), "the counts, with no active connection")
        for _ in range(10):
            assert talk(daemon.port)
        until(lambda: figures(suite).ended == 20, "twenty ends")
        until(lambda: figures(suite).accepted == 21, "the figures of the parent")


def kept(found: Figures) -> tuple[int, int, int, int]:
    return found.messages, found.ended, found.active, found.lost


@pytest.mark.parametrize(("engine", "processes"), [("threads", "1"), ("loop", "2"), ("forks", "1")])
def test_metrics_file_truncated_removed_or_overwritten_ends_no_process(
    suite: Folder, engine: str, processes: str
) -> None:
    """A write to a mapping beyond the end of its file raises SIGBUS, mmap(2)."""
    path = suite.path / "run" / "launcelot.metrics"
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", processes) as daemon:
        pids = [daemon.process.pid, *children(daemon.process.pid)]
        for number, harm in enumerate((b"", b"x", b"x" * 3 * mmap.PAGESIZE), 1):
            assert talk(daemon.port)
            with path.open("wb") as file:  # what : > run/NAME.metrics does
                file.write(harm)
            assert talk(daemon.port)
            until(lambda number=number: ended(suite) == 2 * number, "the figures are back")  # type: ignore[misc]
        path.unlink()
        assert talk(daemon.port)
        assert {daemon.process.pid, *children(daemon.process.pid)} >= set(pids)
        assert daemon.stop() == 0


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("engine", ENGINES)
def test_removed_metrics_file_is_written_again_with_all_figures(suite: Folder, engine: str, processes: str) -> None:
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", processes) as daemon:
        assert talk(daemon.port)
        until(lambda: ended(suite) == 1, "the end")
        with socket.create_connection(("127.0.0.1", daemon.port)) as peer:
            peer.settimeout(10.0)
            peer.sendall(QUEST)
            assert peer.recv(100)
            until(lambda: figures(suite).messages == 2, "the message of a connection that lasts")
            before = _processes(suite)
            _remove_all(suite.path / "run")
            until(lambda: _processes(suite) == before, "the file, locked by all processes")
            found = figures(suite)
            assert (found.state, found.accepted, found.active, found.ended) == ("running", 2, 1, 1)
            assert daemons(suite.path, "stats", "launcelot").returncode == 0
            peer.sendall(QUEST)
            assert peer.recv(100)
            until(lambda: figures(suite).messages == 3, "another message")
        assert "removed or replaced; written again" in daemon.out
        assert daemon.stop() == 0
    assert figures(suite).state == "stopped"


def test_metrics_file_removed_with_its_folder_or_replaced_is_written_again(suite: Folder) -> None:
    with Live(suite.path, "launcelot", "--engine", "loop", "--processes", "2"):
        before = _processes(suite)
        for harm in (_remove_with_folder, _replace):
            harm(suite.path / "run")
            until(lambda: _processes(suite) == before, f"the file, locked by all processes, after {harm.__name__}")


def _remove_all(run: Path) -> None:
    for path in run.iterdir():
        path.unlink()


def _remove_with_folder(run: Path) -> None:
    shutil.rmtree(run)


def _replace(run: Path) -> None:
    """Replace the file, as a restored backup does."""
    path = run / "launcelot.metrics"
    copy = path.with_suffix(".new")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def _processes(suite: Folder) -> set[tuple[int, str]]:
    try:
        return {(each.pid, each.role) for each in figures(suite).processes}
    except UnreadableError:
        return set()


def test_removed_metrics_file_of_another_daemon_of_the_name_is_not_replaced(suite: Folder) -> None:
    with Live(suite.path, "launcelot") as first:
        _remove_all(suite.path / "run")
        with Live(suite.path, "launcelot") as second:
            # Whichever of the two has put its file there, the other leaves it alone.
            until(lambda: _processes(suite), "a file")
            inode = (suite.path / "run" / "launcelot.metrics").stat().st_ino
            for daemon in (first, second):
                assert talk(daemon.port)
            until(lambda: ended(suite) == 1, "the conversation of one of them")
            for _ in range(2):
                until(lambda: (figures(suite).silent or 9.0) < 0.5, "a turn")
                until(lambda: (figures(suite).silent or 0.0) > 0.5, "time passes")
            assert (suite.path / "run" / "launcelot.metrics").stat().st_ino == inode


def ended(suite: Folder) -> int:
    """Return the number of ended conversations; -1 while the file is damaged."""
    try:
        return figures(suite).ended
    except UnreadableError:
        return -1


def test_a_killed_daemon_is_dead_and_its_figures_stay(suite: Folder) -> None:
    with Live(suite.path, "launcelot") as daemon:
        assert talk(daemon.port)
        until(lambda: figures(suite).ended == 1, "the end")
        daemon.stop(signal.SIGKILL)
    found = figures(suite)
    assert (found.state, found.accepted, found.silent) == ("dead", 1, None)
    assert ", died, for example by SIGKILL\n" in daemons(suite.path, "stats", "launcelot").stdout
    # The next one starts from nothing.
    with Live(suite.path, "launcelot"):
        assert (figures(suite).state, figures(suite).accepted) == ("running", 0)


def workers(suite: Folder) -> list[int]:
    return sorted(each.pid for each in figures(suite).processes if each.role == "worker")


def test_its_children_are_exactly_its_workers(suite: Folder) -> None:
    suite.write("launcelot", "[daemon]\nservice = launcelot\nport = 0\n[metrics]\nlisten = tcp://127.0.0.1:0\n")
    with Live(suite.path, "launcelot", "--processes", "2") as daemon:
        until(lambda: len(workers(suite)) == 2, "two workers")
        assert workers(suite) == children(daemon.process.pid)
    with Live(suite.path, "launcelot") as daemon:
        assert children(daemon.process.pid) == []


def test_dropped_lines_are_counted(suite: Folder) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while os.write(write, b"x" * 4096):
            pass
    os.set_blocking(write, True)
    command = [str(BIN / "daemons"), "run", "launcelot"]
    err = suite.path / "err"
    with err.open("w") as told:
        process = subprocess.Popen(command, cwd=suite.path, env=environment(), stdout=write, stderr=told)
    try:
        until(lambda: READY.search(err.read_text()), "the ready line")
        for _ in range(5):
            assert talk(int(err.read_text().partition("127.0.0.1:")[2].split()[0]))
        until(lambda: figures(suite).dropped_lines == 5, "five dropped lines")
    finally:
        process.terminate()
        process.wait(20)
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("words", [("stats", "launcelot"), ("stats", "launcelot", "--json")])
def test_stats_before_the_first_run(suite: Folder, words: tuple[str, ...]) -> None:
    ended = daemons(suite.path, *words)
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr.startswith(f"launcelot: {suite.path}/run/launcelot.metrics: no such file; ")
    assert ended.stderr.count("\n") == 1


def test_foreign_file_is_one_line_of_error(suite: Folder) -> None:
    (suite.path / "run").mkdir()
    (suite.path / "run" / "launcelot.metrics").write_text("x" * 10000)
    ended = daemons(suite.path, "stats", "launcelot")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"launcelot: {suite.path}/run/launcelot.metrics: not a daemon's scoreboard\n"


def test_another_run_folder_is_another_scoreboard(suite: Folder) -> None:
    elsewhere = suite.path / "elsewhere"
    with Live(suite.path, "launcelot", "--run", str(elsewhere)):
        assert stats.read(elsewhere / "launcelot.metrics").state == "running"
        assert daemons(suite.path, "stats", "launcelot", "--run", str(elsewhere)).returncode == 0
