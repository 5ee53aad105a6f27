"""Sockets bound by another process: descriptor 0, those of systemd, and unusable descriptors."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemons.serving.listening import inherited
from daemons.serving.listening.address import Address, parse_address
from daemons.serving.listening.inherited import InheritanceError
from daemons.serving.listening.listen import ListenError, listen, name_of
from tests.operating.folder import Folder
from tests.operating.live import BIN, GRAIL, QUEST, environment, free_port, talk, until

INI = """
    [daemon]
    service = launcelot
    listen = {listen}
    engine = {engine}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# --- at the seam -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["fd://0", "fd://17", "systemd:", "systemd:camelot.socket"])
def test_an_inherited_address_stays_as_it_is(text: str) -> None:
    address = parse_address(text)
    assert str(address) == text
    assert address.at("0.0.0.0", 1061) == address
    assert address.loopback
    assert not address.conflicts_with(address)


@pytest.mark.parametrize("text", ["fd:0", "fd://", "fd://x", "fd://-1", "systemd://x", "systemd:a b"])
def test_malformed_inherited_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)


def given(sock: socket.socket) -> Address:
    """As it would be inherited; the descriptor is the taker's from now on."""
    return Address("fd", path=str(sock.detach()))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_is_taken_and_named(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    original = socket.create_server((host, 0), family=family)
    port = original.getsockname()[1]
    (listener,) = listen(given(original), 5)
    with listener:
        assert name_of(listener, "fd") == Address("tcp", host=host, port=port)
        assert not listener.getblocking()
        assert not listener.get_inheritable()
        assert listener.fileno() >= inherited.FIRST
        with socket.create_connection((host, port)), listener.accept()[0] as peer:
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_for_datagrams_is_taken_and_named(host: str) -> None:
    original = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    original.bind((host, 0))
    port = original.getsockname()[1]
    (listener,) = listen(given(original), 5)
    with listener:
        assert name_of(listener, "fd") == Address("udp", host=host, port=port)
        assert not listener.getblocking()


def test_a_unix_listener_is_named_by_its_file(tmp_path: Path) -> None:
    for where, shown in ((str(tmp_path / "x.sock"), f"unix:{tmp_path}/x.sock"), (f"\0{tmp_path}", f"unix:@{tmp_path}")):
        original = socket.socket(socket.AF_UNIX)
        original.bind(where)
        original.listen()
        (listener,) = listen(given(original), 5)
        with listener:
            assert str(name_of(listener, "fd")) == shown


def wrong_sockets() -> Iterator[tuple[socket.socket, str]]:
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    yield datagrams, "is a Unix datagram socket; a TCP, UDP or Unix stream socket is expected"
    yield socket.socket(), "does not listen"
    one, other = socket.socketpair()
    yield one, "is a connected socket; a listening one is expected, or run with --inetd nowait"
    other.close()


def test_unusable_inherited_socket_is_reported_and_closed() -> None:
    for sock, complaint in wrong_sockets():
        descriptor = sock.detach()
        with pytest.raises(ListenError) as raised:
            listen(Address("fd", path=str(descriptor)), 5)
        assert str(raised.value) == f"fd://{descriptor}: descriptor {descriptor} {complaint}"
        if "datagram" in complaint:
            os.close(descriptor)  # not taken, so it stays open


def test_file_and_closed_descriptor_are_refused_as_sockets(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(InheritanceError, match="is not a socket"):
        inherited.take(Address("fd", path=str(file.fileno())))
    with pytest.raises(InheritanceError, match="bad file descriptor"):
        inherited.take(Address("fd", path="9999"))


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({}, "LISTEN_FDS and LISTEN_PID are not set"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, "LISTEN_PID is 1: the sockets were passed to that process"),
        ({"LISTEN_FDS": "x", "LISTEN_PID": "me"}, "LISTEN_FDS and LISTEN_PID are not set"),
        ({"LISTEN_FDS": "0", "LISTEN_PID": "me"}, "nothing was passed"),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "me", "LISTEN_FDNAMES": "other"}, "LISTEN_FDNAMES has no camelot"),
    ],
)
def test_missing_systemd_variables_are_reported(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], complaint: str
) -> None:
    for key in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        monkeypatch.delenv(key, raising=False)
    for key, value in variables.items():
        monkeypatch.setenv(key, str(os.getpid()) if value == "me" else value)
    with pytest.raises(InheritanceError, match=complaint):
        inherited.take(Address("systemd", path="camelot"))


# --- daemons ---------------------------------------------------------------------------------------


@contextmanager
def started(
    folder: Folder, *arguments: str, stdin: int, wrapper: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """``daemons run`` with a descriptor 0 of ours."""
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            [*wrapper, str(BIN / "daemons"), "run", *arguments],
            cwd=folder.path,
            env=environment(),
            stdin=stdin,
            stdout=output,
            stderr=output,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)
            output.seek(0)
            sys.stdout.write(output.read())


@pytest.mark.parametrize("engine", ["threads", "forks", "pool", "loop"])
def test_a_listener_on_descriptor_0_outlives_the_daemon(folder: Folder, engine: str) -> None:
    folder.write("x", INI.format(listen="fd://0", engine=engine))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for _ in range(2):
            # The second daemon serves connections made in between.
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.settimeout(10.0)
                with started(folder, "x", "--port", "1", stdin=listener.fileno()) as process:
                    peer.sendall(QUEST)
                    assert peer.recv(100) == GRAIL
                    assert talk(port) == GRAIL
                assert process.returncode == 0


def test_several_processes_serve_one_inherited_listener(folder: Folder) -> None:
    folder.write("x", INI.format(listen="fd://0", engine="threads"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with started(folder, "x", "--processes", "2", stdin=listener.fileno()) as process:
            assert [talk(listener.getsockname()[1]) for _ in range(20)] == [GRAIL] * 20
        assert process.returncode == 0


def test_descriptor_0_that_is_no_socket_is_a_clear_error(folder: Folder) -> None:
    folder.write("x", INI.format(listen="fd://0", engine="threads"))
    ended = subprocess.run(
        [str(BIN / "daemons"), "run", "x"],
        cwd=folder.path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 111
    assert ended.stderr == "x: fd://0: descriptor 0 is not a socket; supervisord, systemd or inetd must pass one\n"


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="no systemd-socket-activate: make engines")
@pytest.mark.parametrize(("option", "address"), [((), "systemd:"), (("--fdname=camelot",), "systemd:camelot")])
def test_systemd_passes_a_listener(folder: Folder, option: tuple[str, ...], address: str) -> None:
    folder.write("x", INI.format(listen=address, engine="threads"))
    port = free_port()
    wrapper = ("systemd-socket-activate", "-l", f"127.0.0.1:{port}", *option)
    with started(folder, "x", stdin=subprocess.DEVNULL, wrapper=wrapper) as process:
        until(lambda: _listens(port), "systemd-socket-activate listens")
        assert talk(port) == GRAIL
        assert talk(port) == GRAIL
    assert process.returncode == 0


def _listens(port: int) -> bool:
    """Without a connection, which would start the daemon before its time."""
    return any(
        line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
        for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    )
