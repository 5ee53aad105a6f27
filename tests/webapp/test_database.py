"""Creation of the bank's files, and files of earlier releases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from werkzeug.security import generate_password_hash

from daemons.webapp import Webapp, database
from daemons.webapp.creation import create
from tests.operating.live import until
from tests.webapp.visitor import Visitor


@pytest.fixture
def shipped(site: Callable[..., Webapp], tmp_path: Path) -> Webapp:
    """Return a site that creates its users file."""
    made = site()
    (tmp_path / "run" / "webapp.users").unlink()
    return made


def test_new_bank_has_the_users_of_the_documentation(shipped: Webapp, tmp_path: Path) -> None:
    for user, password, status in (("brandon", "atigdng", 303), ("sam", "xyzzy", 303), ("sam", "atigdng", 422)):
        assert Visitor(shipped).log_in(user, password).status_code == status
    path = tmp_path / "run" / "webapp.users"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("# The bank's users.  Add one or change a password with: daemons password")


def test_users_of_an_earlier_database_can_log_in(
    shipped: Webapp, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(tmp_path / "run" / "webapp.db")) as connection, connection:
        connection.execute("CREATE TABLE user (name TEXT PRIMARY KEY, password TEXT NOT NULL)")
        for statement in database.TABLES:
            connection.execute(statement)
        users = {
            "Zo\u00eb": generate_password_hash("caf\u00e9", "scrypt:128:8:1"),
            "robin": generate_password_hash("x", "pbkdf2:sha256:1"),
            "a:b": "x",
        }
        connection.executemany("INSERT INTO user VALUES (?, ?)", users.items())
        connection.execute("PRAGMA user_version = 1")
    assert Visitor(shipped).log_in("Zo\u00eb", "caf\u00e9").status_code == 303
    assert Visitor(shipped).log_in("Zo\u00eb", "cafe").status_code == 422
    assert Visitor(shipped).log_in("brandon", "atigdng").status_code == 422
    logged = [record.getMessage().partition(" not converted")[0] for record in caplog.records]
    assert logged == ["user robin of the database", "user a:b of the database"]


def test_users_file_that_was_removed_is_not_made_again(site: Callable[..., Webapp], tmp_path: Path) -> None:
    visitor = Visitor(site())
    assert visitor.log_in().status_code == 303
    (tmp_path / "run" / "webapp.users").unlink()
    assert visitor.log_in().status_code == 503
    assert not (tmp_path / "run" / "webapp.users").exists()


def test_busy_database_is_503_and_changes_nothing(
    site: Callable[..., Webapp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = Visitor(site())
    visitor.log_in()
    token = visitor.token("/bank/pay")
    before = visitor.payments()
    monkeypatch.setattr(database, "PATIENCE", 0.01)
    payment = {"account": "psf", "dollars": "1", "memo": "Tea", "token": token}
    with closing(sqlite3.connect(tmp_path / "run" / "webapp.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = visitor.post("/bank/pay", data=payment)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        other.execute("ROLLBACK")
    assert visitor.payments() == before
    assert visitor.post("/bank/pay", data=payment).status_code == 303


@pytest.mark.parametrize("method", ["read", "write"])
def test_threads_that_wait_for_another_connection_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    bank = database.Database(tmp_path / "db", tmp_path / "users")
    with bank.read():
        pass
    monkeypatch.setattr(database, "PATIENCE", 30.0)

    def use() -> int:
        with getattr(bank, method)() as connection:
            return len(connection.execute("SELECT * FROM payment").fetchall())

    with (
        closing(sqlite3.connect(tmp_path / "db", isolation_level=None, check_same_thread=False)) as other,
        ThreadPoolExecutor(16) as threads,
    ):
        other.execute("BEGIN EXCLUSIVE")
        try:
            used = [threads.submit(use) for _ in range(16)]
            most = database.WAITING_READERS if method == "read" else 1 + database.WAITING_WRITERS
            until(lambda: sum(each.done() for each in used) == 16 - most, "those that need not wait")
            assert all(isinstance(each.exception(), database.DatabaseBusy) for each in used if each.done())
        finally:
            other.execute("ROLLBACK")
        assert sorted(each.result() for each in used if each.exception() is None) == [3] * most


def test_file_behind_a_dangling_link_is_made_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    create(tmp_path / "link", b"first")
    assert (tmp_path / "folder" / "file").read_bytes() == b"first"
    assert (tmp_path / "folder" / "file").stat().st_mode & 0o777 == 0o600


def test_file_that_exists_is_neither_opened_nor_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    create(path, b"first")
    path.chmod(0o000)  # opening it would fail, except for root
    inode = path.stat().st_ino
    create(path, b"second")
    assert path.stat().st_ino == inode
    path.chmod(0o600)
    assert path.read_bytes() == b"first"
