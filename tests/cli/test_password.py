"""``daemons password``: add or replace the line of a user."""

from __future__ import annotations

import fcntl
import io
import os
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from daemons.accounts import ACCEPTED, Accounts, hashes
from daemons.accounts.users_file import read
from daemons.cli.command import main
from daemons.cli.password import _copy_access
from tests.accounts.files import CHEAP
from tests.operating.live import BIN


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes.hash_password, "__defaults__", (CHEAP,))


def accepted(path: Path, name: str, password: str) -> bool:
    return Accounts(str(path)).check(name, password, "192.0.2.7").outcome is ACCEPTED


def typed(monkeypatch: pytest.MonkeyPatch, path: Path, name: str, said: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    return main(["password", str(path), name])


def test_a_user_is_added_and_gets_a_new_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "users"
    assert typed(monkeypatch, path, "Arthur", "first\n") == 0
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("# these may\n" + path.read_text())
    path.chmod(0o640)
    assert typed(monkeypatch, path, "Zoe\u0308", "x\n") == 0
    assert typed(monkeypatch, path, "Arthur", "second") == 0
    assert [accepted(path, "Arthur", each) for each in ("first", "second")] == [False, True]
    assert path.read_text().startswith("# these may\nArthur:scrypt$2$1$1$")
    assert (path.stat().st_mode & 0o777, os.listdir(tmp_path)) == (0o640, ["users"])
    assert capsys.readouterr().out.splitlines()[1:] == [f"{path}: Zoë is added", f"{path}: Arthur has a new password"]


def test_at_a_terminal_it_is_asked_for_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["one", "other", "same", "same"])
    monkeypatch.setattr("daemons.cli.password.getpass.getpass", lambda _: next(answers))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert main(["password", str(tmp_path / "users"), "Arthur"]) == 1
    assert not (tmp_path / "users").exists()
    assert main(["password", str(tmp_path / "users"), "Arthur"]) == 0
    assert accepted(tmp_path / "users", "Arthur", "same")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [(b"\x04", "no password was given; nothing was changed"), (b"a\xff\n", "not UTF-8; nothing was changed")],
    ids=["Ctrl-D", "not UTF-8"],
)
def test_no_password_at_the_terminal_is_one_line_of_error(keys: bytes, reason: str, tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    # In a session of its own, the first terminal that a process opens becomes its controlling terminal.
    opens = f"import os, sys; os.open({os.ttyname(terminal)!r}, os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"
    with (
        os.fdopen(ours, "r+b", buffering=0) as keyboard,
        os.fdopen(terminal) as stdin,
        subprocess.Popen(
            [sys.executable, "-c", opens, BIN / "daemons", "password", tmp_path / "users", "Arthur"],
            stdin=stdin,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            env={**os.environ, "PYTHONUTF8": "1"},
        ) as asked,
    ):
        prompt = b""
        while not prompt.endswith(b": "):  # earlier keys would be discarded, tcsetattr(3) with TCSAFLUSH
            assert select.select([keyboard], [], [], 30)[0]
            prompt += keyboard.read(100)
        keyboard.write(keys)
        _, error = asked.communicate(timeout=30)
    assert (asked.returncode, error) == (1, f"daemons password: {reason}\n")
    assert os.listdir(tmp_path) == []


def test_endless_line_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/zero", encoding="utf-8") as endless:
        monkeypatch.setattr("sys.stdin", endless)
        assert main(["password", str(tmp_path / "users"), "Arthur"]) == 1
    assert "expected at most 256; nothing was changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said", "before", "reason"),
    [
        ("a:b", "x", None, "'a:b' is not a name; up to 64 characters without a colon are expected"),
        ("#a", "x", None, "'#a' is not a name"),
        ("a", "\n", None, "the password is empty; nothing was changed"),
        ("a", "x", "nonsense\n", "line 1: not a hash; expected scrypt"),
    ],
)
def test_invalid_input_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    said: str,
    before: str | None,
    reason: str,
) -> None:
    path = tmp_path / "users"
    if before is not None:
        path.write_text(before)
    assert typed(monkeypatch, path, name, said) == 1
    error = capsys.readouterr().err
    assert error.startswith("daemons password: ")
    assert reason in error
    assert (path.read_text() if path.exists() else None) == before
    assert typed(monkeypatch, tmp_path / "no" / "users", "a", "x") == 1
    assert "no such file or directory" in capsys.readouterr().err


def test_generated_secret_is_printed_once_and_replaces_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "users"
    secrets = []
    for _ in range(2):
        assert main(["password", "--generate", str(path), "robin"]) == 0
        first, _ = capsys.readouterr().out.splitlines()
        secrets.append(first.removeprefix("secret: "))
    assert [accepted(path, "robin", secret) for secret in secrets] == [False, True]
    assert path.read_text().startswith("robin:sha256$")
    assert path.stat().st_mode & 0o777 == 0o600


def test_byte_order_mark_is_dropped_and_lines_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users"
    assert typed(monkeypatch, path, "Arthur", "first\n") == 0
    line = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf# these may\r\n" + line.strip().encode() + b"\r\n")
    assert typed(monkeypatch, path, "Robin", "x\n") == 0
    assert path.read_bytes().startswith(f"# these may\n{line}Robin:scrypt$".encode())


@pytest.mark.parametrize("said", ["x" * 257, "\u0301" * 200])
def test_longer_password_than_is_ever_verified_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    assert typed(monkeypatch, tmp_path / "users", "Arthur", said) == 1
    assert "expected at most 256; nothing was changed" in capsys.readouterr().err
    assert not (tmp_path / "users").exists()


def test_user_added_while_a_password_is_typed_is_kept_and_one_removed_stays_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users"
    assert main(["password", "--generate", str(path), "mordred"]) == 0

    def asked(prompt: str) -> str:
        path.unlink(missing_ok=True)
        assert main(["password", "--generate", str(path), "robin"]) == 0
        return "a password"

    monkeypatch.setattr("daemons.cli.password.getpass.getpass", asked)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert main(["password", str(path), "Arthur"]) == 0
    assert list(read(path)) == ["robin", "Arthur"]


def test_folder_that_another_program_locks_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("daemons.cli.password.PATIENCE", 0.01)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert main(["password", "--generate", str(tmp_path / "users"), "Arthur"]) == 1
    finally:
        os.close(folder)
    assert "users: another process has locked its folder for more than 0.01 s\n" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_users_added_by_several_commands_at_once_are_all_there(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(6)]
    command = [str(BIN / "daemons"), "password", "--generate", str(tmp_path / "users")]
    started = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in names]
    for name, process in zip(names, started, strict=True):
        assert process.communicate(timeout=60)[0].endswith(f"{name} is added\n")
    assert sorted(read(tmp_path / "users")) == names
    assert os.listdir(tmp_path) == ["users"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can keep every owner")
@pytest.mark.parametrize(
    ("mode", "group", "is_kept"), [(0o640, os.getegid(), True), (0o600, os.getegid(), False), (0o640, 0, False)]
)
def test_file_of_another_user_remains_readable_for_its_daemon(
    mode: int, group: int, is_kept: bool, tmp_path: Path
) -> None:
    """The daemon reads the file as its owner, or by its group."""
    of_root = os.stat("/")
    found = os.stat_result((mode, *of_root[1:5], group, *of_root[6:]))
    with (tmp_path / "new").open("w") as file:
        if is_kept:
            _copy_access(found, file.fileno())
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
        else:
            with pytest.raises(PermissionError, match="belongs to another user"):
                _copy_access(found, file.fileno())


def test_target_of_a_symbolic_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    link, path = tmp_path / "users", tmp_path / "shared" / "accounts"
    link.symlink_to("shared/accounts")
    for name in ("robin", "Arthur"):
        assert main(["password", "--generate", str(link), name]) == 0
    assert link.is_symlink()
    assert list(read(path)) == ["robin", "Arthur"]
