"""SIGHUP: settings that are applied, settings that are refused, and a refusal changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from tests import certificates
from tests.operating.folder import Folder
from tests.operating.live import GRAIL, QUEST, Live, children, talk, until
from tests.serving.tls_client import theirs

SHIPPED = (Path(__file__).resolve().parents[2] / "conf" / "logging.ini").read_text("utf-8")

every_way = pytest.mark.parametrize("processes", ["1", "2"])


@pytest.fixture
def suite(folder: Folder) -> Folder:
    write(folder)
    return folder


def write(folder: Folder, *more: str) -> None:
    """Write the ini of launcelot with additional lines."""
    folder.write("launcelot", "\n".join(["[daemon]", "service = launcelot", "port = 0", *more]))


def write_logging(folder: Folder, *changes: tuple[str, str]) -> None:
    """Write the shipped logging.ini with `changes`."""
    text = SHIPPED
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder.conf / "logging.ini").write_text(text, "utf-8")


#: Lines of a configuration that was taken up begin with this word.
MARKED = ("format = %(asctime)s", "format = MARKED %(asctime)s")


def reload(daemon: Live, expected: str = " reloaded; changed: ") -> str:
    """Send SIGHUP; return the log up to the line that contains `expected`."""
    before = len(daemon.out)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: expected in daemon.out[before:], f"{expected!r} in {daemon.out[before:]!r}")
    return daemon.out[before:]


def answered(daemon: Live) -> str:
    """Have a conversation; return its access line."""
    before = daemon.out.count(" messages=1 ")
    assert talk(daemon.port) == GRAIL
    until(lambda: daemon.out.count(" messages=1 ") > before, "the access line")
    return next(line for line in reversed(daemon.out.splitlines()) if " messages=1 " in line)


@every_way
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("class = daemons.operating.logging.logs.Output", "class = no.such.Handler"), "ModuleNotFoundError: "),
        (("handlers = output", "handlers = outptu"), "KeyError: 'outptu'"),
        (("[loggers]", "[logers]"), "KeyError: 'loggers'"),
        (("keys = root", "no key"), "ParsingError: "),
    ],
)
def test_a_wrong_logging_ini_changes_nothing(
    suite: Folder, processes: str, change: tuple[str, str], complaint: str
) -> None:
    write_logging(suite)
    with Live(suite.path, "launcelot", "--processes", processes) as daemon:
        write_logging(suite, MARKED, change)
        write(suite, "[access]", "deny = 127.0.0.0/8")
        said = reload(daemon, "not reloaded: conf/logging.ini: " + complaint)
        assert "MARKED" not in said
        assert "MARKED" not in answered(daemon)
        write(suite)
        write_logging(suite, MARKED)
        assert "MARKED" in reload(daemon, " reloaded; changed: logging.ini\n")
        until(lambda: answered(daemon).startswith("MARKED "), "an access line in the new form")


@every_way
def test_a_wrong_ini_changes_nothing(suite: Folder, processes: str) -> None:
    with Live(suite.path, "launcelot", "--processes", processes) as daemon:
        write_logging(suite, MARKED)
        write(suite, "[limits]", "idle_timout = 1s")
        said = reload(daemon, "not reloaded: conf/launcelot.ini [limits] idle_timout: no such setting")
        assert "MARKED" not in said
        assert "MARKED" not in answered(daemon)


@pytest.fixture
def over_tls(folder: Folder) -> Folder:
    """A project with a daemon over TLS and its certificate."""
    for name in ("server.pem", "server.key"):
        shutil.copy(certificates.folder() / name, folder.path / name)
    write_tls(folder)
    return folder


def write_tls(folder: Folder, *more: str) -> None:
    tls = ["[tls]", "certificate = server.pem", "key = server.key"]
    folder.write("launcelot", "\n".join(["[daemon]", "service = launcelot", "listen = tls://127.0.0.1:0", *tls, *more]))


def greeted(daemon: Live) -> bool:
    """Return whether a client that trusts the first CA can connect over TLS."""
    with (
        socket.create_connection(("127.0.0.1", daemon.port), 10.0) as plain,
        theirs().wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        peer.sendall(QUEST)
        return peer.recv(100) == GRAIL


@every_way
def test_a_wrong_certificate_changes_nothing(over_tls: Folder, processes: str) -> None:
    with Live(over_tls.path, "launcelot", "--processes", processes) as daemon:
        (over_tls.path / "server.pem").write_text("not any more")
        write_logging(over_tls, MARKED)
        write_tls(over_tls, "[access]", "deny = 127.0.0.0/8")
        said = reload(daemon, "[tls] certificate = server.pem: contains no certificate")
        assert "MARKED" not in said
        assert greeted(daemon)
        until(lambda: " done messages=1 " in daemon.out, "the access line")
        assert "MARKED" not in daemon.out


@every_way
def test_renewed_certificate_file_is_loaded_and_logged(over_tls: Folder, processes: str) -> None:
    with Live(over_tls.path, "launcelot", "--processes", processes) as daemon:
        reload(daemon, " reloaded; changed: nothing; the certificate was read again\n")
        assert greeted(daemon)


@every_way
def test_unused_certificate_may_be_removed(over_tls: Folder, processes: str) -> None:
    """Listener and certificate stay until the restart."""
    with Live(over_tls.path, "launcelot", "--processes", processes) as daemon:
        (over_tls.path / "server.pem").unlink()
        write(over_tls)
        said = reload(daemon, "these need a restart: ")
        assert "these need a restart: daemon.port, daemon.listen, tls.certificate, tls.key\n" in said
        assert greeted(daemon)


@every_way
@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["[log]", "size = 1KiB"], "log.size"),
        (["[metrics]", "listen = unix:run/x.sock"], "metrics.listen"),
        (["backlog = 7"], "daemon.backlog"),
    ],
)
def test_settings_that_need_a_restart_are_logged_at_each_reload(
    suite: Folder, processes: str, more: list[str], named: str
) -> None:
    with Live(suite.path, "launcelot", "--processes", processes) as daemon:
        write(suite, *more)
        for _ in range(2):
            said = reload(daemon, f"these need a restart: {named}\n")
            assert " reloaded; changed: nothing\n" in said
            settled(daemon)
        # And no more, when it is as it was.
        write(suite)
        assert "restart" not in reload(daemon, " reloaded; changed: nothing\n")


def settled(daemon: Live) -> None:
    """Return the pids of the workers once all have been replaced."""
    if int(daemon.ready["processes"]) > 1:
        until(lambda: len(children(daemon.process.pid)) == int(daemon.ready["processes"]), "the old workers' end")


def test_the_service_and_its_section_need_a_restart_of_one_process(suite: Folder) -> None:
    with Live(suite.path, "launcelot") as daemon:
        write(suite, "engine = forks", "[launcelot]", "colour = blue")
        for _ in range(2):
            assert "reloaded; changed: nothing" in reload(
                daemon, "these need a restart: daemon.engine, launcelot.colour\n"
            )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["[launcelot]", "colour = blue"], "conf/launcelot.ini [launcelot] colour: Launcelot has no options"),
        (["[daemon]", "service = angry:Angry", "port = 0"], "RuntimeError: on purpose"),
        (["[daemon]", "service = leaving:Leaving", "port = 0"], "leaving called sys.exit(None) while it was imported"),
    ],
)
def test_service_that_fails_keeps_the_old_workers_and_logging(suite: Folder, wrong: list[str], told: str) -> None:
    suite.module("angry", "raise RuntimeError('on purpose')")
    suite.module("leaving", "import sys\nsys.exit()")
    with Live(suite.path, "launcelot", "--processes", "2") as daemon:
        workers = children(daemon.process.pid)
        write_logging(suite, MARKED)
        if "[daemon]" in wrong:
            suite.write("launcelot", "\n".join(wrong))
        else:
            write(suite, *wrong)
        said = reload(daemon, "not reloaded: ")
        assert told in said
        assert "MARKED" not in said
        assert "MARKED" not in answered(daemon)
        assert children(daemon.process.pid) == workers


@every_way
def test_a_logger_that_is_named_no_more_is_as_if_it_had_never_been(suite: Folder, processes: str) -> None:
    quiet = "keys = root, access\n[logger_access]\nqualname = daemons.launcelot.access\nlevel = ERROR\nhandlers =\n"
    write_logging(suite, ("keys = root\n", quiet))
    with Live(suite.path, "launcelot", "--processes", processes) as daemon:
        write_logging(suite)
        reload(daemon)

        def told() -> bool:
            assert talk(daemon.port) == GRAIL
            return " done messages=1 " in daemon.out

        until(told, "an access line")


def test_the_parent_gives_workers_the_time_that_they_now_have(suite: Folder) -> None:
    """Workers that do not end are killed; with the old drain_timeout that would be after 1.6 s."""
    write(suite, "[limits]", "drain_timeout = 100ms")
    with Live(suite.path, "launcelot", "--processes", "2") as daemon:
        old = children(daemon.process.pid)
        write(suite, "[limits]", "drain_timeout = 30s")
        reload(daemon, "changed: limits.drain_timeout")
        until(lambda: len(new := children(daemon.process.pid)) == 2 and not {*new} & {*old}, "new workers")
        with socket.create_connection(("127.0.0.1", daemon.port), 2.5) as peer:
            peer.sendall(b"What is your name?What")
            assert peer.recv(100)
            os.kill(daemon.process.pid, signal.SIGTERM)
            with pytest.raises(TimeoutError):
                peer.recv(100)
            peer.sendall(b" is your quest?")
            assert peer.recv(100) == GRAIL
        assert daemon.wait() == 0


def test_files_that_cannot_be_read_any_more_end_nothing(
    suite: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:

    for processes in ("1", "2"):
        with Live(suite.path, "launcelot", "--processes", processes) as daemon:
            conf = suite.conf.rename(tmp_path_factory.mktemp("moved") / "conf")
            reload(daemon, "not reloaded: ")
            assert talk(daemon.port) == GRAIL
            conf.rename(suite.conf)
            reload(daemon, "reloaded; changed: nothing")


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_another_max_rate_takes_effect_at_once(suite: Folder, engine: str) -> None:
    write(suite, f"engine = {engine}", "[limits]", "max_rate = 1/h")
    with Live(suite.path, "launcelot") as daemon:
        answered(daemon)
        with socket.create_connection(("127.0.0.1", daemon.port), 10.0) as waiting:
            waiting.sendall(QUEST)
            until(lambda: "max_rate of " in daemon.out, "a line in the log")
            write(suite, f"engine = {engine}", "[limits]", "max_rate = 1000/s")
            reload(daemon, " reloaded; changed: limits.max_rate\n")
            assert waiting.recv(100) == GRAIL
        answered(daemon)


@pytest.mark.parametrize("engine", ["threads", "loop"])
def test_shorter_timeout_applies_to_open_connections(suite: Folder, engine: str) -> None:
    write(suite, f"engine = {engine}", "[limits]", "idle_timeout = 1h")
    with (
        Live(suite.path, "launcelot") as daemon,
        socket.create_connection(("127.0.0.1", daemon.port), 10.0) as idle,
    ):
        idle.sendall(QUEST)
        assert idle.recv(100) == GRAIL
        write(suite, f"engine = {engine}", "[limits]", "idle_timeout = 100ms")
        reload(daemon, " reloaded; changed: limits.idle_timeout\n")
        assert idle.recv(100) == b""
