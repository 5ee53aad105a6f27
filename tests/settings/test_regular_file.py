"""Files that settings name are read without waiting, and up to a limit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from daemons.serving.tls.context import client_context
from daemons.settings import regular_file


def test_regular_file_and_dev_null_are_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    assert regular_file.read_bytes(tmp_path / "x") == b"content"
    assert regular_file.read_bytes(os.devnull) == b""
    regular_file.check(tmp_path / "x")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("fifo", errno.EINVAL),
        ("folder", errno.EISDIR),
        ("zero", errno.EINVAL),
        ("large", errno.EFBIG),
        ("", errno.ENOENT),
    ],
)
def test_other_file_is_refused_without_waiting(kind: str, code: int, tmp_path: Path) -> None:
    path = tmp_path / "x"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "zero":
            path.symlink_to("/dev/zero")
        case "large":
            with path.open("wb") as file:
                file.truncate(regular_file.LARGEST + 1)
    before = os.listdir("/proc/self/fd")
    for action in (regular_file.read_bytes, regular_file.check):
        with pytest.raises(OSError) as raised:  # noqa: PT011, the code is compared below
            action(path)
        assert (raised.value.errno, raised.value.filename) == (code, str(path))
    with pytest.raises(OSError, match=f"^{path}: "):
        client_context(path)
    assert os.listdir("/proc/self/fd") == before


def test_growing_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_file, "LARGEST", 3)
    status = Path("/proc/self/status")  # its size is 0
    with pytest.raises(OSError, match="larger than 0 MiB"):
        regular_file.read_bytes(status)
