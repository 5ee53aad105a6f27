"""Addresses become listening sockets, or one line that says why not; then none is left open."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from daemons.serving.listening import listen as listening_module
from daemons.serving.listening.address import Address, parse_address
from daemons.serving.listening.listen import ListenError, explain, listen, name_of
from tests.serving.peers import connect

LOOPBACK = Address("tcp", "127.0.0.1", 0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, address: Address, backlog: int = 8) -> list[socket.socket]:
    return [stack.enter_context(closing(listener)) for listener in listen(address, backlog)]


def unix(path: Path) -> Address:
    return Address("unix", path=str(path))


def test_port_0_is_replaced_by_the_port_that_was_bound(stack: ExitStack) -> None:
    (listener,) = listening(stack, LOOPBACK)
    name = name_of(listener, "tcp")
    assert (name.scheme, name.host) == ("tcp", "127.0.0.1")
    assert name.port > 0
    connect((name.host, name.port)).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_listeners_do_not_block_send_at_once_and_can_be_restarted(host: str, stack: ExitStack) -> None:
    for listener in listening(stack, Address("tcp", host, 0)):
        assert listener.getblocking() is False
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert not listener.get_inheritable()
        with connect(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert accepted.getblocking() is True


def test_ipv4_and_ipv6_stand_side_by_side_on_one_port(stack: ExitStack) -> None:
    (four,) = listening(stack, Address("tcp", "0.0.0.0", 0))
    (six,) = listening(stack, Address("tcp", "::", four.getsockname()[1]))
    assert six.getsockname()[1] == four.getsockname()[1]
    assert str(name_of(six, "tcp")).startswith("tcp://[::]:")


def test_empty_host_binds_all_addresses_of_both_families(stack: ExitStack) -> None:
    assert {listener.family for listener in listening(stack, Address("tcp", "", 0))} == {
        socket.AF_INET,
        socket.AF_INET6,
    }


def test_backlog_is_the_requested_one(stack: ExitStack) -> None:
    (listener,) = listening(stack, LOOPBACK, backlog=3)
    for _ in range(4):  # Linux holds one more, listen(2)
        stack.enter_context(connect(listener.getsockname()))
    with socket.socket() as late:
        late.setblocking(False)
        assert late.connect_ex(listener.getsockname()) == errno.EINPROGRESS


def test_a_port_that_is_taken_is_refused_with_a_hint(stack: ExitStack) -> None:
    (listener,) = listening(stack, LOOPBACK)
    port = listener.getsockname()[1]
    with pytest.raises(ListenError) as caught:
        listen(Address("tcp", "127.0.0.1", port), 8)
    assert str(caught.value) == (
        f"tcp://127.0.0.1:{port}: address already in use; `ss -ltnp sport = :{port}` shows the process"
    )


def test_all_sockets_are_closed_if_one_address_of_a_name_is_in_use(stack: ExitStack) -> None:
    (taken,) = listening(stack, LOOPBACK)
    port = taken.getsockname()[1]
    with pytest.raises(ListenError, match="in use"):
        listen(Address("tcp", "localhost", port), 8)
    assert name_of(taken, "tcp").port == port
    (free,) = listening(stack, Address("tcp", "::1", port))
    assert free.getsockname()[1] == port


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "cannot assign requested address; no interface of this machine has it"),
        ("no-such-host.invalid", ""),  # in the words of the resolver
        ("a" * 64 + ".example", ""),  # refused before it is asked
    ],
)
def test_address_of_another_host_is_reported(host: str, reason: str) -> None:
    with pytest.raises(ListenError, match=f"^tcp://{host}:0: .*{reason}"):
        listen(Address("tcp", host, 0), 8)


def test_port_below_1024_without_the_capability_is_reported() -> None:
    error = OSError(errno.EACCES, os.strerror(errno.EACCES))
    assert explain(Address("tcp", "127.0.0.1", 80), error) == (
        "tcp://127.0.0.1:80: permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    )
    assert explain(Address("tcp", "127.0.0.1", 8080), error) == "tcp://127.0.0.1:8080: permission denied"


# --- Unix sockets ----------------------------------------------------------------------------------


def test_a_unix_socket_is_for_its_user_and_group_and_its_folder_is_made(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "run" / "deep" / "x.sock"
    mask = os.umask(0)
    try:
        (listener,) = listening(stack, unix(path))
        assert os.umask(0) == 0
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert name_of(listener, "unix") == unix(path)
    connect(str(path)).close()


def test_a_file_left_by_a_daemon_that_was_killed_is_removed(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "x.sock"
    for listener in listen(unix(path), 8):
        listener.close()
    assert path.is_socket()
    listening(stack, unix(path))
    connect(str(path)).close()


def test_unix_socket_that_accepts_connections_is_not_removed(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "x.sock"
    (listener,) = listening(stack, unix(path))
    with pytest.raises(ListenError, match=f"^unix:{path}: address already in use$"):
        listen(unix(path), 8)
    connect(str(path)).close()
    assert name_of(listener, "unix") == unix(path)


def test_unix_socket_with_a_full_queue_is_not_removed(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "x.sock"
    listening(stack, unix(path), backlog=1)
    for _ in range(2):
        stack.enter_context(connect(str(path)))
    with pytest.raises(ListenError, match=f"^unix:{path}: address already in use$"):
        listen(unix(path), 8)
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "folder", "fifo"])
def test_file_that_is_not_a_socket_is_not_removed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    if kind == "file":
        path.write_text("dear")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(ListenError, match=f"^unix:{path}: a file that is not a socket is in the way$"):
        listen(unix(path), 8)
    assert path.exists()


def test_a_dangling_link_at_the_path_is_refused_by_its_name_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.symlink_to("gone/x.sock")
    with pytest.raises(ListenError, match=f"^unix:{path}: a link to gone/x.sock, which is missing, is in the way$"):
        listen(unix(path), 8)
    assert path.is_symlink()


def test_a_dangling_link_in_place_of_the_folder_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("gone")
    with pytest.raises(ListenError, match=f"{tmp_path}/run is not a directory$"):
        listen(unix(tmp_path / "run" / "x.sock"), 8)


def test_a_link_to_a_socket_is_followed(tmp_path: Path, stack: ExitStack) -> None:
    path, link = tmp_path / "x.sock", tmp_path / "link.sock"
    (listener,) = listening(stack, unix(path))
    link.symlink_to(path)
    with pytest.raises(ListenError, match="already in use"):
        listen(unix(link), 8)
    listener.close()
    listening(stack, unix(link))  # the old socket does not listen any more
    assert not link.is_symlink()


@pytest.mark.parametrize("zone", ["eth0", "br-lan", "eth0.100", "veth1@if2", "2"])
@pytest.mark.parametrize("scheme", ["tcp", "tls", "udp"])
def test_an_address_may_have_a_zone(scheme: str, zone: str) -> None:
    text = f"{scheme}://[fe80::1%{zone}]:1060"
    address = parse_address(text)
    assert (address.host, address.port) == (f"fe80::1%{zone}", 1060)
    assert str(address) == text


@pytest.mark.parametrize("host", ["fe80::1%", "fe80::1%a b", "fe80::1%a/b", "fe80::1%a:b", "%eth0"])
def test_malformed_zone_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(f"tcp://[{host}]:1060")


def test_a_listener_at_a_link_local_address_is_named_with_its_zone(stack: ExitStack) -> None:
    lines = Path("/proc/net/if_inet6").read_text().split("\n")
    found = next((line.split() for line in lines if line.startswith("fe80")), None)
    if found is None:
        pytest.skip("no interface here has a link-local address")
    host = f"{ipaddress.IPv6Address(bytes.fromhex(found[0]))}%{found[5]}"
    for scheme in ("tcp", "udp"):
        (listener,) = listening(stack, parse_address(f"{scheme}://[{host}]:0"))
        address = name_of(listener, scheme)
        assert address.host == host
        assert parse_address(str(address)) == address


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 108)
    with pytest.raises(ListenError, match="path too long"):
        listen(unix(path), 8)


def test_directory_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match=r"not a directory|is not a folder"):
        listen(unix(tmp_path / "file" / "x.sock"), 8)


def test_second_of_two_simultaneous_starts_does_not_remove_the_socket(tmp_path: Path) -> None:
    path, refused = tmp_path / "x.sock", list[ListenError]()

    def come_second() -> None:
        try:
            for listener in listen(unix(path), 8):
                listener.close()
        except ListenError as error:
            refused.append(error)

    second = threading.Thread(target=come_second)
    folder = os.open(tmp_path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as first:
        # As in listen(); between these two lines, the socket is bound but not listening.
        fcntl.flock(folder, fcntl.LOCK_EX)
        first.bind(str(path))
        second.start()
        second.join(0.1)
        first.listen()
        os.close(folder)
        second.join()
        assert "in use" in str(refused)
        connect(str(path)).close()


def test_lock_of_another_process_on_the_folder_does_not_keep_a_daemon_from_starting(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening_module, "LOCK_TIMEOUT", 0.05)
    folder = os.open(tmp_path, os.O_RDONLY)
    stack.callback(os.close, folder)
    fcntl.flock(folder, fcntl.LOCK_EX)
    listening(stack, unix(tmp_path / "a.sock"))
    with connect(str(tmp_path / "a.sock")):
        assert "locked by another process" in caplog.text
