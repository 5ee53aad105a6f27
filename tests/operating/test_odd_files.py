"""Files of a project that are not regular or not readable: one line of error, and no unlimited wait."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from daemons.cli.supervisord_files import File
from daemons.operating.config import ini
from daemons.operating.metrics.scoreboard import has_orphans
from daemons.operating.pidfile import Pidfile
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import GOOD, Folder
from tests.operating.live import Live, daemons

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    (folder.path / "run").mkdir()
    return folder


def test_fifo_at_defaults_ini_is_a_complaint(suite: Folder) -> None:
    os.mkfifo(suite.conf / "defaults.ini")
    assert suite.complaints(name="launcelot") == ["conf/defaults.ini: not a regular file"]


def test_link_to_dev_null_at_defaults_ini_is_an_empty_file(suite: Folder) -> None:
    (suite.conf / "defaults.ini").symlink_to(os.devnull)
    assert suite.complaints(name="launcelot") == []


def test_fifo_at_an_included_file_is_a_complaint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.conf")
    file = File(tmp_path / "own.conf", "conf.d/own.conf", included=True)
    assert file.complaints == ["conf.d/own.conf: not a regular file; supervisord skips it"]


def test_fifo_at_the_metrics_is_unreadable_and_replaced(suite: Folder) -> None:
    path = suite.path / "run" / "launcelot.metrics"
    os.mkfifo(path)
    ended = daemons(suite.path, "stats", "launcelot")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"launcelot: {path}: not a daemon's scoreboard")
    assert not has_orphans(path)
    with Live(suite.path, "launcelot"):
        assert path.is_file()


def test_fifo_at_the_pidfile_is_not_waited_for(suite: Folder) -> None:
    path = suite.path / "run" / "launcelot.pid"
    os.mkfifo(path)
    assert Pidfile(path).read() is None
    assert daemons(suite.path, "stop", "launcelot").returncode == 1
    ended = daemons(suite.path, "run", "launcelot", "--detach")
    assert ended.returncode == 111
    assert ended.stderr == f"launcelot: {path}: exists and is not a regular file\n"


def test_link_at_the_pidfile_is_not_followed(suite: Folder) -> None:
    """Its target may be a file of another user, or the locked pid file of another program."""
    path, target = suite.path / "run" / "launcelot.pid", suite.path / "target"
    target.write_text("kept\n", "ascii")
    path.symlink_to(target)
    ended = daemons(suite.path, "run", "launcelot", "--detach")
    assert (ended.returncode, ended.stderr) == (111, f"launcelot: {path}: exists and is not a regular file\n")
    assert target.read_text("ascii") == "kept\n"
    with target.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getpid()}\n")
        file.flush()
        assert Pidfile(path).read() is None
        ended = daemons(suite.path, "stop", "launcelot")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert str(path) in ended.stderr


def test_log_that_cannot_be_opened_refuses_a_detached_start(suite: Folder) -> None:
    log = suite.path / "logs" / "launcelot.detached.log"
    log.mkdir(parents=True)
    ended = daemons(suite.path, "run", "launcelot", "--detach")
    assert (ended.returncode, ended.stdout) == (111, "")
    assert ended.stderr == f"launcelot: {log}: is a directory\n"
    assert not (suite.path / "run" / "launcelot.pid").exists()


def test_stats_without_any_ini_is_an_error(tmp_path: Path) -> None:
    ended = daemons(tmp_path, "stats", "--conf", "nowhere")
    assert (ended.returncode, ended.stdout) == (100, "")
    assert "no daemon's ini is in this folder" in ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
@pytest.mark.parametrize("mode", [0o000, 0o600])
def test_unreadable_conf_is_a_complaint(suite: Folder, mode: int) -> None:
    suite.conf.chmod(mode)
    try:
        with pytest.raises(ConfigurationError, match="permission denied"):
            ini.read(suite.conf, "launcelot")
        for command in ("check", "list", "run launcelot"):
            ended = daemons(suite.path, *command.split())
            assert ended.returncode == 100
            assert "permission denied" in ended.stderr
    finally:
        suite.conf.chmod(0o755)


def test_folder_that_is_not_utf8_serves_detached_at_a_unix_socket(suite: Folder) -> None:
    odd = Path(os.fsdecode(os.fsencode(suite.path) + b"/\xff"))
    odd.mkdir()
    suite.conf.rename(odd / "conf")
    (odd / "conf" / "launcelot.ini").write_text("[daemon]\nservice = launcelot\nlisten = unix:run/x.sock\n")
    try:
        ended = daemons(odd, "run", "launcelot", "--detach")
        assert ended.returncode == 0, ended.stderr
    finally:
        stopped = daemons(odd, "stop", "launcelot")
    assert stopped.returncode == 0, stopped.stderr
