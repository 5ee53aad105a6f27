"""The secret: created once, also by several processes; an invalid one is refused at the start."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from daemons.webapp import Webapp
from daemons.webapp.database import PAYMENTS, Database
from daemons.webapp.secret import Secret


def test_it_is_made_on_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "webapp.key"
    secret = Secret(path)
    assert secret.complaint() == ""
    assert not path.exists()
    value = secret.value()
    assert len(value) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert Secret(path).value() == value
    assert os.listdir(path.parent) == [path.name]
    assert secret.derived("form", "a") != secret.derived("cookie", "a")


def test_several_at_once_have_the_same_secret_and_the_same_bank(tmp_path: Path) -> None:
    secrets = [Secret(tmp_path / "key") for _ in range(8)]
    databases = [Database(tmp_path / "db", tmp_path / "users") for _ in range(4)]
    begin = Barrier(12)

    def read(secret: Secret) -> bytes:
        begin.wait()
        return secret.value()

    def count(database: Database) -> int:
        begin.wait()
        with database.read() as connection:
            return int(connection.execute("SELECT count(*) FROM payment").fetchone()[0])

    with ThreadPoolExecutor(12) as together:
        counts = [together.submit(count, database) for database in databases]
        found = set(together.map(read, secrets))
        assert [each.result() for each in counts] == [len(PAYMENTS)] * 4
    assert len(found) == 1
    assert sorted(os.listdir(tmp_path)) == ["db", "key", "users"]


def _open(path: Path) -> None:
    path.write_bytes(b"k" * 64)
    path.chmod(0o644)


def _short(path: Path) -> None:
    path.write_bytes(b"too short\n")
    path.chmod(0o600)


def _long(path: Path) -> None:
    path.write_bytes(b"k" * 5000)
    path.chmod(0o600)


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_open, "other users may read it, mode 0644; use chmod 600"),
        (_short, "expected a secret of 32 to 4096 bytes; if the file is missing, it is created"),
        (_long, "expected a secret of 32 to 4096 bytes; if the file is missing, it is created"),
        (_fifo, "not a regular file; expected a secret of 32 bytes"),
        (Path.mkdir, "not a regular file; expected a secret of 32 bytes"),
    ],
    ids=["open", "short", "long", "fifo", "folder"],
)
def test_invalid_secret_file_is_refused_at_the_start(tmp_path: Path, make: object, reason: str) -> None:
    path = tmp_path / "webapp.key"
    make(path)  # type: ignore[operator]
    with pytest.raises(TypeError) as caught:
        Webapp(Webapp.Options(key=str(path)))
    assert str(caught.value) == f"{path}: {reason}"


def test_invalid_database_file_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("This is a page of a book. " * 100)
    with pytest.raises(sqlite3.DatabaseError) as caught, Database(tmp_path / "db", tmp_path / "users").read():
        pass
    assert caught.value.__notes__ == [f"the database is {tmp_path / 'db'}"]


def test_failed_creation_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Secret(tmp_path / "file" / "key").value()
    assert os.listdir(tmp_path) == ["file"]
