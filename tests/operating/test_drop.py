"""The section [drop]: privileges are dropped after the bind.  Tests that need root are skipped without it."""

from __future__ import annotations

import os
import pwd
import socket
import stat
from pathlib import Path

import pytest

from daemons.operating.drop import Drop
from daemons.operating.logging.log_file import DropCount, LogFile, open_log
from tests.operating.folder import GOOD, Folder
from tests.operating.live import GRAIL, Live, children, daemons, talk

UNPRIVILEGED = pwd.getpwnam("nobody")

as_root = pytest.mark.root


def status(pid: int) -> dict[str, list[str]]:
    """``/proc/PID/status``: Uid, Gid and Groups, among others."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}


def opened(folder: Folder) -> Folder:
    """Make the folder accessible to all users, unlike the temporary folders of pytest."""
    for each in (folder.path, *folder.path.parents):
        if each.stat().st_uid == os.getuid() and each != Path("/") and each != Path("/tmp"):
            each.chmod(0o755)
    return folder


def test_unknown_names_are_complaints(folder: Folder) -> None:
    folder.write("x", GOOD + "\n    [drop]\n    user = nobodie\n    group = nogroupie\n")
    assert folder.complaints() == [
        "conf/x.ini [drop] user = nobodie: no such user on this system, see getent passwd",
        "conf/x.ini [drop] group = nogroupie: no such group on this system, see getent group",
    ]


def test_numbers_are_names_too() -> None:
    kind = Drop.__dataclass_fields__["user"].metadata["kind"]
    assert kind.parse(str(UNPRIVILEGED.pw_uid)) == UNPRIVILEGED.pw_name
    with pytest.raises(ValueError, match="no such user"):
        kind.parse("4294967294")


def test_without_the_section_there_is_nothing_to_do() -> None:
    assert Drop().done
    assert Drop().complaints("conf/x.ini") == []
    Drop().become()
    me = pwd.getpwuid(os.getuid()).pw_name
    assert Drop(user=me).uid == os.getuid()


def test_group_without_user_is_a_complaint() -> None:
    assert "needs a user" in Drop(group="nogroup").complaints("conf/x.ini")[0]


@as_root
@pytest.mark.parametrize(("more", "processes"), [("", 1), ("group = nogroup", 1), ("", 2)])
def test_root_binds_and_another_user_serves(folder: Folder, more: str, processes: int) -> None:
    opened(folder).write(
        "x",
        f"""
        [daemon]
        service = launcelot
        listen = tcp://127.0.0.1:0 unix:run/x.sock
        processes = {processes}
        [drop]
        user = nobody
        {more}
        """,
    )
    with Live(folder.path, "x") as live:
        pid = live.process.pid
        for each in (pid, *children(pid)):
            found = status(each)
            assert found["Uid"] == [str(UNPRIVILEGED.pw_uid)] * 4
            assert found["Gid"] == [str(UNPRIVILEGED.pw_gid)] * 4
            assert found["Groups"] == [str(UNPRIVILEGED.pw_gid)]
            assert int(found["CapEff"][0], 16) == int(found["CapPrm"][0], 16) == 0
        assert talk(live.port) == GRAIL
        path = folder.path / "run" / "x.sock"
        assert talk(str(path)) == GRAIL
        assert path.stat().st_uid == UNPRIVILEGED.pw_uid
        assert live.stop() == 0


@as_root
def test_service_is_made_again_by_the_new_user(folder: Folder) -> None:
    """A file that root opened in the service's `__init__` would stay open."""
    module = """
        import os
        import daemons

        class Mine(daemons.Service):
            framing = daemons.Until(b"?", limit=64)

            def __init__(self, options=None):
                super().__init__(options)
                self.maker = os.geteuid()

            def respond(self, message):
                return b"%d." % self.maker
    """
    opened(folder).module("mine", module)
    folder.write("x", "[daemon]\nservice = mine:Mine\nport = 0\n[drop]\nuser = nobody\n")
    with Live(folder.path, "x") as live:
        assert talk(live.port, b"?") == b"%d." % UNPRIVILEGED.pw_uid


@as_root
def test_owner_of_a_file_behind_a_link_does_not_change(tmp_path: Path) -> None:
    target, link = tmp_path / "shadow", tmp_path / "x.sock"
    target.touch()
    link.symlink_to(target)
    Drop(user="nobody").chown(str(link))
    assert target.stat().st_uid == 0
    assert link.lstat().st_uid == UNPRIVILEGED.pw_uid


def test_only_root_does_not_follow_a_link_to_a_log_file(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "x.log"
    link.symlink_to(target)
    if os.geteuid() != 0:
        os.close(open_log(link))
        assert target.exists()
        return
    with pytest.raises(OSError, match="a symbolic link, which root does not follow") as raised:
        open_log(link)
    assert raised.value.filename == str(link)
    assert not target.exists()


@as_root
def test_log_writer_of_root_does_not_follow_a_link_made_later(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "x.log"
    file = LogFile(path, 10_000, 1, DropCount())
    file.write(b"one")
    path.rename(tmp_path / "moved")
    path.symlink_to(target)
    file.write(b"two")
    file._close()
    assert not target.exists()
    assert (tmp_path / "moved").read_bytes() == b"one\ntwo\n"


@as_root
def test_drop_without_root_is_refused(folder: Folder) -> None:
    opened(folder).write("x", GOOD.replace("1060", "0") + "\n    [drop]\n    user = root\n")
    with Live(
        folder.path,
        "x",
        command=("setpriv", f"--reuid={UNPRIVILEGED.pw_name}", "--clear-groups", "daemons"),
        ready=False,
    ) as live:
        assert live.wait() == 100
        assert "[drop] user = root: only root can change its user" in live.err


@as_root
def test_drop_to_the_current_user_serves(folder: Folder) -> None:
    opened(folder).write("x", GOOD.replace("1060", "0") + "\n    [drop]\n    user = nobody\n")
    command = (
        "setpriv",
        f"--reuid={UNPRIVILEGED.pw_uid}",
        f"--regid={UNPRIVILEGED.pw_gid}",
        "--clear-groups",
        "daemons",
    )
    with Live(folder.path, "x", command=command) as live:
        assert talk(live.port) == GRAIL


@as_root
def test_a_low_port_without_the_right_is_a_clear_error(folder: Folder) -> None:
    opened(folder).write("x", GOOD)
    command = ("setpriv", f"--reuid={UNPRIVILEGED.pw_name}", "--clear-groups", "--bounding-set=-all", "daemons")
    with Live(folder.path, "x", "--port", "daytime", command=command, ready=False) as live:
        assert live.wait() == 111
        assert live.err == (
            "x: tcp://127.0.0.1:13: permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE\n"
        )


@pytest.mark.parametrize(
    ("written", "mode"), [("", 0o660), ("socket_mode = 0600", 0o600), ("socket_mode = 666", 0o666)]
)
def test_the_mode_of_a_unix_socket(folder: Folder, written: str, mode: int) -> None:
    folder.write("x", f"[daemon]\nservice = launcelot\nlisten = unix:run/x.sock\n{written}\n")
    with Live(folder.path, "x"):
        assert stat.S_IMODE((folder.path / "run" / "x.sock").stat().st_mode) == mode


def test_a_mode_is_octal(folder: Folder) -> None:
    folder.write("x", GOOD)
    assert folder.complaints("daemon.socket_mode=0888") == [
        "--set [daemon] socket_mode = 0888: not a mode; write three octal digits, such as 0660 or 0600"
    ]


def test_a_port_of_the_clients_is_noted_and_no_error(folder: Folder) -> None:
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    folder.write("x", GOOD.replace("1060", str(least)))
    checked = daemons(folder.path, "check")
    assert checked.returncode == 0
    assert f"note: conf/x.ini [daemon] tcp://127.0.0.1:{least}: the kernel uses ports {least} to " in checked.stderr


def test_no_host_is_every_address_of_both_families(folder: Folder) -> None:
    folder.write("x", "[daemon]\nservice = launcelot\nlisten = tcp://:0\n")
    assert "can be reached from other machines" in folder.complaints()[0]
    with Live(folder.path, "x", "--set", "daemon.public=yes") as live:
        assert live.addresses == [f"tcp://0.0.0.0:{live.port}", f"tcp://[::]:{live.port}"]
        assert talk(live.port) == GRAIL
        assert talk(live.port, host="::1") == GRAIL


def test_a_name_of_a_port_is_that_of_the_protocol(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    services = {("daytime", "tcp"): 13, ("tftp", "udp"): 69}

    def look_up(name: str, protocol: str) -> int:
        try:
            return services[name, protocol]
        except KeyError:
            raise OSError("service/proto not found") from None

    # A minimal Debian has no /etc/services.
    monkeypatch.setattr(socket, "getservbyname", look_up)
    folder.write("x", GOOD)
    assert str(folder.read("daemon.port=daytime").addresses[0]) == "tcp://127.0.0.1:13"
    assert "not a port" in folder.complaints("daemon.port=tftp")[0]
