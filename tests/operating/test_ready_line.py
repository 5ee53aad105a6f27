"""The ready line on standard error, when every worker accepts; and several instances."""

from __future__ import annotations

import os
import re
import socket

import pytest

from tests.operating.folder import FAILS_SECOND_TIME, GOOD, Folder
from tests.operating.live import GRAIL, Live, alive, children, refused, talk, until


@pytest.fixture
def suite(folder: Folder) -> Folder:
    folder.write("launcelot", GOOD.replace("1060", "0"))
    return folder


def test_one_process(suite: Folder) -> None:
    with Live(suite.path, "launcelot") as daemon:
        port = daemon.port
        pid = daemon.process.pid
        # Standard error has the ready line and nothing else; the log is on standard output.
        assert daemon.err == f"launcelot ready tcp://127.0.0.1:{port} engine=threads processes=1 pid={pid}\n"
        assert talk(port) == GRAIL
        assert children(pid) == []
        until(lambda: "access" in daemon.out, "the access line")
        assert daemon.err.count("\n") == 1


@pytest.mark.parametrize("engine", ["one", "threads", "forks"])
def test_many_processes(suite: Folder, engine: str) -> None:
    with Live(suite.path, "launcelot", "--engine", engine, "--processes", "3") as daemon:
        pid = daemon.process.pid
        assert daemon.err == f"launcelot ready tcp://127.0.0.1:{daemon.port} engine={engine} processes=3 pid={pid}\n"
        # The children of the started process are exactly its workers, and every one accepts.
        workers = children(pid)
        assert len(workers) == 3
        assert all(talk(daemon.port) == GRAIL for _ in range(20))
        assert daemon.stop() == 0
        assert not any(alive(worker) for worker in workers)
        assert refused(daemon.port)
        # The lines of several workers are not interleaved, and access lines name workers, not the parent.
        writers = {int(found) for found in re.findall(r"access\[(\d+)\]", daemon.out)}
        if engine != "forks":
            assert writers <= set(workers)
        assert len(re.findall(r" done messages=1 received=19 sent=23 seconds=[\d.]+$", daemon.out, re.M)) == 20


def test_number_of_processes_is_shown_for_auto(suite: Folder) -> None:
    with Live(suite.path, "launcelot", "--processes", "auto") as daemon:
        assert int(daemon.ready["processes"]) == len(os.sched_getaffinity(0))


def test_port_0_becomes_the_real_one_for_each_listener(suite: Folder) -> None:
    listen = "daemon.listen=tcp://127.0.0.1:1 tcp://127.0.0.2:1 unix:run/l.sock"
    with Live(suite.path, "launcelot", "--set", listen, "--port", "0") as daemon:
        first, second, third = daemon.addresses
        ports = [int(re.fullmatch(rf"tcp://127\.0\.0\.{n}:(\d+)", a)[1]) for n, a in ((1, first), (2, second))]  # type: ignore[index]
        assert third == f"unix:{suite.path}/run/l.sock"
        assert 0 not in ports
        assert talk(ports[0]) == talk(ports[1], host="127.0.0.2") == talk(third.removeprefix("unix:")) == GRAIL
        assert daemon.err.count("\n") == 1


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 loopback here")
def test_ipv6_is_written_in_brackets(suite: Folder) -> None:
    with Live(suite.path, "launcelot", "--host", "::1") as daemon:
        assert daemon.addresses == [f"tcp://[::1]:{daemon.port}"]
        # The same port on 127.0.0.1 is not tested: another process may listen there.
        assert talk(daemon.port, host="::1") == GRAIL


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 loopback here")
def test_a_name_with_two_addresses_gets_two_listeners_each_with_its_port(suite: Folder) -> None:
    with Live(suite.path, "launcelot", "--host", "localhost") as daemon:
        found = {address.rpartition(":")[0]: int(address.rpartition(":")[2]) for address in daemon.addresses}
        assert set(found) <= {"tcp://127.0.0.1", "tcp://[::1]"}
        for address, port in found.items():
            assert talk(port, host=address.removeprefix("tcp://").strip("[]")) == GRAIL


def test_two_instances_live_side_by_side_in_run_folders_of_their_own(suite: Folder) -> None:
    where = ("--set", "daemon.listen=unix:run/l.sock")
    with (
        Live(suite.path, "launcelot", *where) as one,
        Live(suite.path, "launcelot", *where, "--run", "run2") as two,
    ):
        assert one.addresses == [f"unix:{suite.path}/run/l.sock"]
        assert two.addresses == [f"unix:{suite.path}/run2/l.sock"]
        for daemon in (one, two):
            assert talk(daemon.addresses[0].removeprefix("unix:")) == GRAIL
        # A third finds the first one's socket in use; the first goes on.
        with Live(suite.path, "launcelot", *where, ready=False) as third:
            assert third.wait() == 111
            assert third.err == f"launcelot: unix:{suite.path}/run/l.sock: address already in use\n"
        assert one.stop() == 0
        assert not (suite.path / "run" / "l.sock").exists()
        assert talk(f"{suite.path}/run2/l.sock") == GRAIL


def test_the_socket_of_a_killed_daemon_is_taken_over(suite: Folder) -> None:
    where = ("--set", "daemon.listen=unix:run/l.sock")
    with Live(suite.path, "launcelot", *where) as daemon:
        daemon.process.kill()
        daemon.process.wait()
        assert (suite.path / "run" / "l.sock").is_socket()
    with Live(suite.path, "launcelot", *where) as daemon:
        assert talk(f"{suite.path}/run/l.sock") == GRAIL
        assert (suite.path / "run" / "l.sock").stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("engine", ["one", "threads", "pool", "loop"])
def test_service_of_one_foreground_process_is_made_once(suite: Folder, engine: str) -> None:
    suite.module("late", FAILS_SECOND_TIME)
    suite.write("late", f"[daemon]\nservice = late:Late\nport = 0\nengine = {engine}\n")
    with Live(suite.path, "late") as daemon:
        assert talk(daemon.port, b"?") == b"."
        assert (daemon.stop(), daemon.err.count("\n")) == (0, 1)


def test_no_ready_line_if_a_worker_cannot_start(suite: Folder) -> None:
    """A service that fails in the worker alone: the daemon ends with the worker's code and no ready line."""
    suite.module("late", FAILS_SECOND_TIME)
    suite.write("late", "[daemon]\nservice = late:Late\nport = 0\nprocesses = 2\n")
    with Live(suite.path, "late", ready=False) as daemon:
        assert daemon.wait() == 100
        assert " ready " not in daemon.err
        assert ": RuntimeError: the second time it is made\n" in daemon.err
