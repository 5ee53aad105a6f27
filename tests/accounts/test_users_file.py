"""The users file: its format, and errors in a line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread

import pytest

from daemons.accounts import users_file
from daemons.accounts.hashes import generate_secret, hash_password
from daemons.accounts.users_file import Unreadable, Users, UsersFile, checked, read
from tests.accounts.files import CHEAP, write_lines, write_users

LINE = f"Arthur:{hash_password('x', CHEAP)}"
SECRET = f"robin:{generate_secret()[1]}"


def test_comments_blank_lines_and_both_forms_of_hashes_are_read(tmp_path: Path) -> None:
    write_lines(tmp_path / "users", "# a comment", "", LINE, SECRET)
    users = read(tmp_path / "users")
    assert (list(users), users.slow) == (["Arthur", "robin"], True)


def test_byte_order_mark_and_windows_line_ends_are_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"\xef\xbb\xbf" + f"{LINE}\r\n{SECRET}\r\n".encode())
    path.chmod(0o600)
    assert list(read(path)) == ["Arthur", "robin"]


def test_line_end_of_another_alphabet_is_part_of_a_name(tmp_path: Path) -> None:
    write_lines(tmp_path / "users", "# a\u2028b", f"A\x85B\u2028C:{hash_password('x', CHEAP)}")
    assert list(read(tmp_path / "users")) == ["A\x85B\u2028C"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["Arthur"], "line 1: not a hash; expected scrypt$N$R$P$SALT$HASH or sha256$SALT$HASH"),
        ([LINE, ":x"], "line 2: no valid name; expected NAME:HASH"),
        (["x" * 65 + ":x"], "line 1: no valid name"),
        ([LINE, f"\ufeff{SECRET}"], "line 2: no valid name"),
        ([SECRET.replace(":", " :", 1)], "line 1: no valid name"),
        (["", LINE, LINE], "line 3: duplicate user Arthur"),
        (["# nothing else"], "no users; add one with `daemons password FILE NAME`"),
    ],
)
def test_complaint_names_file_line_and_expected_form(tmp_path: Path, lines: list[str], reason: str) -> None:
    path = tmp_path / "users"
    write_lines(path, *lines)
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: {reason}")):
        checked(str(path))


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _binary(path: Path) -> None:
    path.write_bytes(b"\xff")
    path.chmod(0o600)


def _open_to_all(path: Path) -> None:
    write_lines(path, LINE)
    path.chmod(0o604)


def _large(path: Path) -> None:
    write_lines(path, "#" * 100)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_fifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (_binary, "not UTF-8"),
        (_open_to_all, "mode 0604 lets every user of this machine read it; use chmod 640"),
        (_large, "more than 100 bytes"),
        (lambda path: None, "no such file; create it with `daemons password FILE NAME`"),
    ],
    ids=["fifo", "folder", "binary", "open", "large", "missing"],
)
def test_file_that_is_no_users_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, reason: str
) -> None:
    monkeypatch.setattr(users_file, "LARGEST", 100)
    path = tmp_path / "users"
    make(path)  # type: ignore[operator]
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: {reason.replace('FILE', str(path))}") + "$"):
        checked(str(path))


def test_changed_file_is_read_again_and_a_wrong_one_denies_all_with_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users"
    write_users(path, Arthur="x")
    file = UsersFile(str(path))
    assert list(file.users()) == ["Arthur"]
    write_users(path, Robin="x")
    assert list(file.users(3600.0)) == ["Arthur"]
    assert list(file.users()) == list(file.users(3600.0)) == ["Robin"]
    path.chmod(0o644)
    for _ in range(3):
        with pytest.raises(Unreadable):
            file.users()
    with pytest.raises(Unreadable):
        file.users(3600.0)
    reason = f"{path}: mode 0644 lets every user of this machine read it; use chmod 640"
    assert [record.getMessage() for record in caplog.records] == [
        f"users file unreadable, all requests denied: {reason}"
    ]
    path.chmod(0o600)
    assert list(file.users()) == ["Robin"]


def test_wrong_file_is_not_read_for_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users"
    write_lines(path, LINE, "wrong")
    file = UsersFile(str(path))
    with pytest.raises(Unreadable):
        file.users()
    with monkeypatch.context() as patched:
        patched.delattr(users_file, "read")
        for _ in range(3):
            with pytest.raises(Unreadable):
                file.users()
    write_lines(path, LINE)
    assert list(file.users()) == ["Arthur"]


def test_file_is_found_after_the_working_folder_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_users(tmp_path / "users", Arthur="x")
    monkeypatch.chdir(tmp_path)
    file = UsersFile("users")
    monkeypatch.chdir("/")
    assert list(file.users()) == ["Arthur"]


def test_slow_reader_of_an_earlier_state_does_not_bring_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread stores the old users while another stores the new ones."""
    path = tmp_path / "users"
    write_users(path, Arthur="x")
    old = read(path)
    has_read, may_go_on = Event(), Event()

    def late(place: str) -> Users:
        monkeypatch.setattr(users_file, "read", read)
        has_read.set()
        assert may_go_on.wait(10)
        return old

    class Slow(UsersFile):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if has_read.is_set() and current_thread() is main_thread():
                may_go_on.set()
                thread.join()

    file = Slow(str(path))
    monkeypatch.setattr(users_file, "read", late)
    thread = Thread(target=file.users)
    thread.start()
    assert has_read.wait(10)
    write_users(path, Robin="x")
    assert list(file.users()) == ["Robin"]
    assert list(file.users()) == ["Robin"]
