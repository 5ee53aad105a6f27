"""Under inetd: descriptors 0, 1 and 2 are one socket, and log lines must not reach the peer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.operating.folder import GOOD, Folder
from tests.operating.live import BIN, GRAIL, QUEST, daemons, environment, talk, until


@contextmanager
def inetd(folder: Folder, how: str, sock: socket.socket, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon as inetd starts it for `sock`."""
    process = subprocess.Popen(
        [str(BIN / "daemons"), "run", "x", "--inetd", how, *arguments],
        cwd="/",
        env=environment(DAEMONS_CONF=str(folder.conf)),
        stdin=sock.fileno(),
        stdout=sock.fileno(),
        stderr=sock.fileno(),
    )
    try:
        yield process
        process.wait(20)
    finally:
        process.kill()
        process.wait()


def log(folder: Folder) -> str:
    return (folder.path / "logs" / "x.inetd.log").read_text("utf-8")


def received(peer: socket.socket) -> bytes:
    peer.settimeout(20.0)
    reply = b""
    while data := peer.recv(65536):
        reply += data
    return reply


def visit() -> tuple[socket.socket, socket.socket]:
    """A connection over TCP: our end, and inetd's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        return peer, listener.accept()[0]


def test_nowait_serves_the_one_connection(folder: Folder) -> None:
    folder.write("x", GOOD)
    peer, given = visit()
    with peer, inetd(folder, "nowait", given) as process:
        given.close()
        peer.sendall(QUEST * 3)
        peer.shutdown(socket.SHUT_WR)
        assert received(peer) == GRAIL * 3
    assert process.returncode == 0
    assert f"127.0.0.1:{peer.getsockname()[1] if peer.fileno() >= 0 else ''}" in log(folder)
    assert " done messages=3 " in log(folder)


def test_datagrams_are_for_wait_and_are_answered(folder: Folder) -> None:
    folder.write("x", GOOD)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as given:
        given.bind(("127.0.0.1", 0))
        with inetd(folder, "nowait", given) as process:
            pass
        assert process.returncode == 111
        assert "descriptor 0 is a datagram socket; use --inetd wait" in log(folder)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(20.0)
            peer.connect(given.getsockname())
            # inetd starts the daemon because a datagram is there, and leaves it in the queue.
            peer.send(QUEST)
            with inetd(folder, "wait", given, "--set", "daemon.idle_exit=100ms") as process:
                assert peer.recv(65536) == GRAIL
    assert process.returncode == 0


def test_moved_log_is_opened_again_at_sigusr1(folder: Folder) -> None:
    folder.write("x", GOOD)
    path = folder.path / "logs" / "x.inetd.log"
    peer, given = visit()
    with peer, inetd(folder, "nowait", given) as process:
        given.close()
        peer.sendall(QUEST)
        assert peer.recv(100) == GRAIL
        path.rename(path.with_suffix(".1"))
        process.send_signal(signal.SIGUSR1)
        until(lambda: path.exists() and "log files reopened" in path.read_text("utf-8"), "the new file")
        peer.shutdown(socket.SHUT_WR)
        assert received(peer) == b""
    assert " done messages=1 " in log(folder)


def test_nowait_over_a_unix_socket_and_with_o_nonblock(folder: Folder) -> None:
    folder.write("x", GOOD)
    peer, given = socket.socketpair()
    given.setblocking(False)
    with peer, inetd(folder, "nowait", given) as process:
        given.close()
        peer.sendall(QUEST)
        peer.shutdown(socket.SHUT_WR)
        assert received(peer) == GRAIL
    assert process.returncode == 0


def test_nowait_keeps_the_rules(folder: Folder) -> None:
    folder.write("x", GOOD + "\n    [access]\n    deny = 127.0.0.0/8\n")
    peer, given = visit()
    with peer, inetd(folder, "nowait", given) as process:
        given.close()
        assert received(peer) == b""
    assert process.returncode == 0
    assert "refused" in log(folder)
    assert "reason=denied" in log(folder)


def test_complaints_do_not_reach_the_peer(folder: Folder) -> None:
    folder.write("x", GOOD.replace("port", "prot"))
    for how in ("wait", "nowait"):
        peer, given = visit()
        with peer, inetd(folder, how, given) as process:
            given.close()
            assert received(peer) == b""
        assert process.returncode == 100
    assert log(folder).count("did you mean port?") == 2


def test_service_that_requires_tls_is_refused(folder: Folder) -> None:
    folder.write("x", "[daemon]\nservice = tlsd\nlisten = tls://127.0.0.1:0\n[tls]\ncertificate = x.pem\n")
    peer, given = visit()
    with peer, inetd(folder, "nowait", given) as process:
        given.close()
        assert received(peer) == b""
    assert process.returncode == 100
    assert "the service requires TLS; not encrypted: fd://0; write listen = tls://HOST:PORT" in log(folder)


def test_the_wrong_way_is_a_clear_error(folder: Folder) -> None:
    folder.write("x", GOOD)
    with socket.create_server(("127.0.0.1", 0)) as listener, inetd(folder, "nowait", listener) as process:
        pass
    assert process.returncode == 111
    assert "x: descriptor 0 is a listening socket; use --inetd wait\n" in log(folder)
    peer, given = visit()
    with peer, given, inetd(folder, "wait", given) as process:
        pass
    assert process.returncode == 111
    assert "is a connected socket; a listening one is expected, or run with --inetd nowait" in log(folder)


def test_wait_serves_until_idle_exit(folder: Folder) -> None:
    folder.write("x", GOOD)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with inetd(folder, "wait", listener, "--set", "daemon.idle_exit=1s") as process:
            assert talk(port) == GRAIL
            # An open connection prevents idle_exit, even without traffic.
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.settimeout(20.0)
                try:
                    process.wait(2.0)
                except subprocess.TimeoutExpired:
                    pass
                assert process.poll() is None
                peer.sendall(QUEST)
                assert peer.recv(100) == GRAIL
        assert process.returncode == 0
        assert "idle: no connection for 1 s; stopping" in log(folder)
        # The listener is inetd's, and still there for the next one.
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_wait_exits_after_eight_idle_seconds_by_default(folder: Folder) -> None:
    folder.write("x", GOOD)
    from daemons.cli import inetd as module

    assert module.IDLE_EXIT == 8.0
    assert folder.read().daemon.idle_exit is None


def test_by_hand_it_is_a_clear_error(folder: Folder, tmp_path: Path) -> None:
    folder.write("x", GOOD)
    for how in ("wait", "nowait"):
        ended = subprocess.run(
            [str(BIN / "daemons"), "run", "x", "--inetd", how],
            cwd=folder.path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 111
        assert "descriptor 0 is not a socket; supervisord, systemd or inetd must pass one" in ended.stderr


def test_idle_exit_is_for_one_process(folder: Folder) -> None:
    folder.write("x", GOOD + "    processes = 2\n    idle_exit = 1m\n")
    checked = daemons(folder.path, "check")
    assert checked.returncode == 100
    assert checked.stderr == (
        "conf/x.ini [daemon] idle_exit: one of several processes cannot see whether the others are idle; "
        "write processes = 1\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may become any user")
def test_nowait_without_the_right_to_change_the_user_is_a_complaint(folder: Folder) -> None:
    folder.write("x", GOOD + "\n    [drop]\n    user = root\n")
    peer, given = visit()
    with peer, inetd(folder, "nowait", given) as process:
        given.close()
        assert received(peer) == b""
    assert process.returncode == 100
    assert "x: conf/x.ini [drop] user = root: only root can change its user" in log(folder)
