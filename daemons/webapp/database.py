"""The database: a file of SQLite that is made on first use."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from daemons.webapp.passwords import hashed

#: Seconds to wait for who is writing.
PATIENCE = 5.0

#: Of the tables below.
VERSION = 1

TABLES = (
    "CREATE TABLE user (name TEXT PRIMARY KEY, password TEXT NOT NULL)",
    "CREATE TABLE payment (id INTEGER PRIMARY KEY, debit TEXT NOT NULL, credit TEXT NOT NULL,"
    " dollars INTEGER NOT NULL CHECK (dollars > 0), memo TEXT NOT NULL)",
    "CREATE INDEX payment_debit ON payment (debit)",
    "CREATE INDEX payment_credit ON payment (credit)",
    # The id is the hash of a session's: who reads the database cannot go on with anybody's session.
    "CREATE TABLE session (id TEXT PRIMARY KEY, user TEXT NOT NULL, until REAL NOT NULL)",
)

USERS = {"brandon": "atigdng", "sam": "xyzzy"}

PAYMENTS = (
    ("brandon", "psf", 125, "Registration for PyCon"),
    ("brandon", "liz", 200, "Payment for writing that code"),
    ("sam", "brandon", 25, "Gas money-thanks for the ride!"),
)


class Database:
    """The file at `path`.  Each `open` is a connection of its own, for threads and forks alike."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A connection, in a transaction, which is over at the end: all of it, or, after an exception, nothing.
        Raises `OSError` and `sqlite3.Error`."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN")
                with connection:
                    yield connection
        except sqlite3.Error as error:
            error.add_note(f"the database is {self._path}")  # SQLite does not say
            raise

    def _connect(self) -> sqlite3.Connection:
        self._create()
        connection = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)
        try:
            if not _version(connection):
                self._fill(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> None:
        """Create an empty file, mode 0600, where there is none.  Raises `OSError`.

        SQLite holds POSIX locks on the database, and closing any descriptor of a file drops all of the process's locks
        on it (fcntl(2)).  So an existing file is never opened here, and a new one is closed before it gets its name."""
        if self._path.exists():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        os.close(descriptor)
        try:
            with suppress(FileExistsError):  # another thread or process was first
                os.link(made, self._path)
        finally:
            os.unlink(made)

    def _fill(self, connection: sqlite3.Connection) -> None:
        users = [(name, hashed(password)) for name, password in USERS.items()]
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            if _version(connection):
                return  # another process was first
            for statement in TABLES:
                connection.execute(statement)
            connection.executemany("INSERT INTO user VALUES (?, ?)", users)
            connection.executemany("INSERT INTO payment (debit, credit, dollars, memo) VALUES (?, ?, ?, ?)", PAYMENTS)
            connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
