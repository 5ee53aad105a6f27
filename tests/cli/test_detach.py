"""``daemons run NAME --detach`` and ``daemons stop NAME``."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.cli import detach
from daemons.operating.pidfile import Pidfile
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, READY, alive, children, daemons, end_all, open_files, refused, talk, until


class Detached:
    """A project whose daemon is started detached."""

    def __init__(self, folder: Folder) -> None:
        self.path = folder.path
        self.pidfile = folder.path / "run" / "launcelot.pid"
        self.log = folder.path / "logs" / "launcelot.detached.log"

    def start(self, *options: str) -> int:
        """Start it; returns the port."""
        ended = daemons(self.path, "run", "launcelot", "--detach", *options)
        assert ended.returncode == 0, ended.stderr
        found = READY.fullmatch(ended.stderr.rstrip("\n"))
        assert found, ended.stderr
        assert int(found["pid"]) == self.pid
        assert ended.stdout == f"launcelot is detached: its pid in {self.pidfile}, its log {self.log}\n"
        return int(found["addresses"].rpartition(":")[2])

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text("ascii"))

    @property
    def text(self) -> str:
        """The content of the log file, empty until the log writer has created it."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def processes(self) -> list[int]:
        """The daemon, its workers and its log writer."""
        return [self.pid, *children(self.pid)]


@pytest.fixture
def launcelot(folder: Folder) -> Iterator[Detached]:
    folder.write("launcelot", GOOD.replace("1060", "0") + "[log]\nsize = 4KiB\nbackups = 100\n")
    yield Detached(folder)
    end_all(folder.path)


def test_it_has_no_terminal_no_parent_of_ours_and_its_own_session(launcelot: Detached) -> None:
    port = launcelot.start()
    assert talk(port) == GRAIL
    pid = launcelot.pid
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, _, session, terminal = (int(field) for field in status[1:5])
    assert parent not in (os.getpid(), os.getppid())
    assert session not in (os.getsid(0), pid)  # not its leader either: it can never get a terminal
    assert terminal == 0
    assert os.readlink(f"/proc/{pid}/cwd") == str(launcelot.path)
    # Its open files are /dev/null, the lock and the scoreboard only; the log's pipe and the listener have no path.
    counts = str(launcelot.pidfile.with_suffix(".metrics"))
    open_now = {target for target in open_files(pid) if target.startswith("/")}
    assert open_now == {"/dev/null", str(launcelot.pidfile), counts, "/memfd:metrics (deleted)"}


def test_stop_waits_for_the_end_and_leaves_nothing(launcelot: Detached) -> None:
    port = launcelot.start()
    processes = launcelot.processes
    assert len(processes) == 2
    stopped = daemons(launcelot.path, "stop", "launcelot")
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "launcelot: stopped\n", "")
    assert refused(port)
    assert not launcelot.pidfile.exists()
    until(lambda: not any(alive(pid) for pid in processes), "the end of the daemon and its log writer")
    # But its counts, which can still be read.
    assert [path.name for path in (launcelot.path / "run").iterdir()] == ["launcelot.metrics"]


def test_stop_lets_a_conversation_finish(launcelot: Detached) -> None:
    port = launcelot.start()
    with socket.create_connection(("127.0.0.1", port), 10.0) as peer:
        peer.sendall(b"What is your name?What")
        assert peer.recv(100)
        os.kill(launcelot.pid, signal.SIGTERM)
        until(lambda: "stopping: draining 1 connections" in launcelot.text, "the drain")
        peer.sendall(b" is your quest?")
        assert peer.recv(100) == GRAIL
    until(lambda: not launcelot.pidfile.exists(), "the end")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_sigterm_removes_the_pidfile(launcelot: Detached, processes: str) -> None:
    launcelot.start("--processes", processes)
    all_of_it = launcelot.processes
    os.kill(launcelot.pid, signal.SIGTERM)
    until(lambda: not launcelot.pidfile.exists(), "the pidfile's end")
    until(lambda: not any(alive(pid) for pid in all_of_it), "the end of all its processes")


@pytest.mark.parametrize("engine", ["threads", "forks"])
def test_several_processes_and_forks_share_one_log_writer(launcelot: Detached, engine: str) -> None:
    port = launcelot.start("--processes", "2", "--engine", engine)
    assert len(children(launcelot.pid)) == 3  # two workers and the log writer
    for _ in range(10):
        assert talk(port) == GRAIL
    until(lambda: launcelot.text.count(" done messages=1 ") == 10, "ten access lines")
    holders = [pid for pid in launcelot.processes if str(launcelot.log) in open_files(pid)]
    assert len(holders) == 1
    assert holders != [launcelot.pid]


def test_a_second_start_is_refused_clearly_and_the_first_goes_on(launcelot: Detached) -> None:
    port = launcelot.start()
    again = daemons(launcelot.path, "run", "launcelot", "--detach")
    assert (again.returncode, again.stdout) == (111, "")
    assert again.stderr == f"launcelot: already running as pid {launcelot.pid}, see {launcelot.pidfile}\n"
    assert talk(port) == GRAIL


def test_two_run_folders_hold_two_instances(launcelot: Detached) -> None:
    port = launcelot.start()
    ended = daemons(launcelot.path, "run", "launcelot", "--detach", "--run", "run2")
    found = READY.search(ended.stderr)
    assert found, ended.stderr
    try:
        assert talk(port) == talk(int(found["addresses"].rpartition(":")[2])) == GRAIL
    finally:
        stopped = daemons(launcelot.path, "stop", "launcelot", "--run", "run2")
    assert stopped.returncode == 0, stopped.stderr
    assert talk(port) == GRAIL


def test_the_log_is_rotated_by_its_one_writer_and_no_line_is_lost(launcelot: Detached) -> None:
    port = launcelot.start("--processes", "2", "--set", "log.size=1KiB")
    for _ in range(100):
        assert talk(port) == GRAIL
    logs = launcelot.log.parent

    def lines() -> list[str]:
        return [line for path in logs.iterdir() for line in path.read_text().splitlines()]

    access = re.compile(r"[-\d]+ [:,\d]+ INFO daemons\.launcelot\.access\[\d+\] 127\.0\.0\.1:\d+ done messages=1 .*")
    until(lambda: len([line for line in lines() if access.fullmatch(line)]) == 100, "a hundred access lines")
    assert daemons(launcelot.path, "stop", "launcelot").returncode == 0
    files = sorted(logs.iterdir())
    assert len(files) > 5
    assert {path.name for path in files} == {"launcelot.detached.log"} | {
        f"launcelot.detached.log.{number}" for number in range(1, len(files))
    }
    assert all(path.stat().st_size <= 1024 for path in files)
    rest = [line for line in lines() if not access.fullmatch(line)]
    assert all(READY.fullmatch(line) or "daemons.serving." in line for line in rest), rest
    assert sum(bool(READY.fullmatch(line)) for line in rest) == 1


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_pidfile_of_a_killed_daemon_is_stale_and_ignored(launcelot: Detached, processes: str) -> None:
    launcelot.start("--processes", processes)
    killed, rest = launcelot.pid, children(launcelot.pid)
    os.kill(killed, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in (killed, *rest)), "the end of all its processes")
    assert launcelot.pidfile.exists()
    stop = daemons(launcelot.path, "stop", "launcelot")
    assert stop.returncode == 1
    assert stop.stderr == (
        f"launcelot: not running detached ({launcelot.pidfile} is not locked); "
        "under supervisord: supervisorctl stop launcelot\n"
    )
    assert talk(launcelot.start()) == GRAIL
    assert launcelot.pid != killed


def test_pidfile_that_is_a_folder_is_no_daemon(launcelot: Detached) -> None:
    launcelot.pidfile.mkdir(parents=True)
    stop = daemons(launcelot.path, "stop", "launcelot")
    assert (stop.returncode, stop.stderr.count("\n")) == (1, 1)
    assert stop.stderr.startswith(f"launcelot: not running detached ({launcelot.pidfile} is not locked); ")


def test_stop_of_a_daemon_that_does_not_run_is_an_error(launcelot: Detached) -> None:
    stop = daemons(launcelot.path, "stop", "launcelot")
    assert (stop.returncode, stop.stdout) == (1, "")
    assert "not running detached" in stop.stderr
    assert not launcelot.pidfile.exists()


@pytest.mark.parametrize(
    "ini", ["[daemon]\nprot = 0\n", "no section\n", None], ids=["mistyped", "no ini any more", "removed"]
)
def test_stop_works_with_a_wrong_ini(launcelot: Detached, ini: str | None) -> None:
    """The ini was changed after the start of the daemon."""
    port = launcelot.start()
    path = launcelot.path / "conf" / "launcelot.ini"
    path.unlink() if ini is None else path.write_text(ini)
    stop = daemons(launcelot.path, "stop", "launcelot")
    assert (stop.returncode, stop.stdout, stop.stderr) == (0, "launcelot: stopped\n", "")
    assert refused(port)
    # If the daemon does not run, `stop` says so; it reports the ini only if the file is missing.
    stop = daemons(launcelot.path, "stop", "launcelot")
    if ini is None:
        assert (stop.returncode, stop.stderr) == (100, "launcelot: conf/launcelot.ini: no such file\n")
    else:
        assert stop.returncode == 1
        assert "not running detached" in stop.stderr


def test_stop_of_an_unknown_name_is_an_error(launcelot: Detached) -> None:
    stop = daemons(launcelot.path, "stop", "lancelot")
    assert (stop.returncode, stop.stdout) == (100, "")
    assert stop.stderr == "lancelot: conf/lancelot.ini: no such file; did you mean launcelot?\n"


def test_stop_of_a_starting_daemon_is_an_error(launcelot: Detached) -> None:
    """The lock is taken first, and the pid written when the ports are bound."""
    pidfile = Pidfile(launcelot.pidfile)
    pidfile.lock()
    try:
        stop = daemons(launcelot.path, "stop", "launcelot")
    finally:
        pidfile.release()
    assert stop.returncode == 1
    assert stop.stderr.startswith("launcelot: not running detached (it is starting); ")


def test_stop_signals_no_process_that_only_has_the_pid_of_a_daemon(
    launcelot: Detached, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is stale and names a process that has the pid by now, and another process holds its lock."""
    with (launcelot.path / "conf" / "launcelot.ini").open("a") as ini:
        ini.write("[limits]\ndrain_timeout = 1ms\n")
    (launcelot.path / "run").mkdir()
    stranger = subprocess.Popen(["sleep", "60"])
    holder = Pidfile(launcelot.pidfile)
    holder.lock()
    try:
        launcelot.pidfile.write_text(f"{stranger.pid}\n")
        with monkeypatch.context() as patched:
            patched.setattr(detach, "STOP_GRACE", 0.1)
            assert detach.stop(launcelot.path / "conf", "launcelot") == 1
        assert stranger.poll() is None
    finally:
        holder.release()
        stranger.kill()
        stranger.wait()
    assert capsys.readouterr().err == (
        f"launcelot: another process than pid {stranger.pid} of {launcelot.pidfile} holds its lock; "
        "nothing was signalled\n"
    )


@pytest.mark.parametrize("text", ["-1", "0", "4194305", "9" * 30, "\u0664\u0662", "1.5"])
def test_number_in_the_pid_file_that_is_no_pid_is_none(launcelot: Detached, text: str) -> None:
    (launcelot.path / "run").mkdir()
    holder = Pidfile(launcelot.pidfile)
    holder.lock()
    try:
        launcelot.pidfile.write_text(f"{text}\n", "utf-8")
        assert holder.read() is None
        ended = daemons(launcelot.path, "stop", "launcelot")
    finally:
        holder.release()
    assert ended.returncode == 1
    assert ended.stderr.startswith("launcelot: not running detached (")


def test_pid_file_is_for_its_owner_alone_even_where_an_older_one_was_not(launcelot: Detached) -> None:
    launcelot.pidfile.parent.mkdir()
    launcelot.pidfile.write_text("1\n")
    launcelot.pidfile.chmod(0o644)
    launcelot.start()
    assert launcelot.pidfile.stat().st_mode & 0o777 == 0o600
    assert Pidfile(launcelot.pidfile).opened_by(launcelot.pid)
    assert not Pidfile(launcelot.pidfile).opened_by(os.getpid())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("unreadable", ["run", "run/launcelot.pid"])
def test_stop_without_access_to_the_pidfile_is_refused_in_one_line(launcelot: Detached, unreadable: str) -> None:
    launcelot.start()
    path = launcelot.path / unreadable
    mode = path.stat().st_mode
    path.chmod(0)
    stop = daemons(launcelot.path, "stop", "launcelot")
    path.chmod(mode)
    assert (stop.returncode, stop.stderr) == (111, f"launcelot: {launcelot.pidfile}: permission denied\n")


def test_stop_of_another_users_daemon_is_refused_in_one_line(
    launcelot: Detached, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    launcelot.start()
    with monkeypatch.context() as patched:
        patched.setattr(signal, "pidfd_send_signal", forbidden)
        assert detach.stop(launcelot.path / "conf", "launcelot") == 111
    assert capsys.readouterr().err == (
        f"launcelot: pid {launcelot.pid} belongs to another user; only that user and root can stop it\n"
    )


@pytest.mark.parametrize("processes", ["1", "2"])
def test_sigterm_to_all_its_processes_drains_and_the_log_is_written_to_the_end(
    launcelot: Detached, processes: str
) -> None:
    """As systemd does it: also the log writer is signalled."""
    port = launcelot.start("--processes", processes)
    group = os.getpgid(launcelot.pid)
    assert all(os.getpgid(pid) == group for pid in launcelot.processes)
    with socket.create_connection(("127.0.0.1", port), 10.0) as peer:
        peer.sendall(b"What is your name?What")
        assert peer.recv(100)
        os.killpg(group, signal.SIGTERM)
        until(lambda: "stopping: draining 1 connections" in launcelot.text, "the stop")
        peer.sendall(b" is your quest?")
        assert peer.recv(100) == GRAIL
        assert peer.recv(100) == b""
    until(lambda: not launcelot.pidfile.exists(), "its end")
    until(lambda: " drained messages=2 " in launcelot.text, "its last line")
