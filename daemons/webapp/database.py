"""The database: an SQLite file created on first use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import BoundedSemaphore, Lock

from daemons.webapp.creation import create
from daemons.webapp.customers import EXAMPLES, converted, create_users

#: Seconds to wait for the lock of another connection.
PATIENCE = 5.0

#: Maximum number of threads that wait so long, to read and to write.  With the writing thread they are ten of the 16
#: threads of ``engine = pool``, so the others remain available for requests without the database.
WAITING_READERS, WAITING_WRITERS = 2, 7

#: Seconds that any thread may wait: no connection can read while another one commits.
SHORT = 0.02

#: Version of the schema.  Version 1 included the users.
VERSION = 2

TABLES = (
    "CREATE TABLE payment (id INTEGER PRIMARY KEY, debit TEXT NOT NULL, credit TEXT NOT NULL,"
    " dollars INTEGER NOT NULL CHECK (dollars > 0), memo TEXT NOT NULL)",
    "CREATE INDEX payment_debit ON payment (debit)",
    "CREATE INDEX payment_credit ON payment (credit)",
    # The id is a hash of the session id, so a reader of the database cannot take over a session.
    "CREATE TABLE session (id TEXT PRIMARY KEY, user TEXT NOT NULL, until REAL NOT NULL)",
)

PAYMENTS = (
    ("brandon", "psf", 125, "Registration for PyCon"),
    ("brandon", "liz", 200, "Payment for writing that code"),
    ("sam", "brandon", 25, "Gas money-thanks for the ride!"),
)


class DatabaseBusy(Exception):
    """Other connections have written for longer than `PATIENCE`, or too many threads wait for them.  Nothing has been
    changed."""


class Database:
    """The database file at `path`, and the users file at `users`, which is created with it.  Each `read` and `write`
    opens a connection, which suits threads and forks alike.  Only SQLite may open the file: see `create`."""

    def __init__(self, path: Path, users: Path) -> None:
        self._path = path
        self._users = users
        #: SQLite waits for a lock by sleeping and retrying, which may starve a connection.  This lock serializes the
        #: writing threads of a process.
        self._turn = Lock()
        self._readers = BoundedSemaphore(WAITING_READERS)
        self._writers = BoundedSemaphore(WAITING_WRITERS)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection in a read transaction.  Raises `OSError`, `DatabaseBusy` and `sqlite3.Error`."""
        with self._translated_errors():
            try:
                connection = self._begin("BEGIN", SHORT)
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                with _waiting(self._readers):
                    connection = self._begin("BEGIN", PATIENCE)
            with closing(connection), connection:
                yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection in a write transaction, committed at the end or rolled back after an exception.  Changes
        are on disk only after this returns.  Raises `OSError`, `DatabaseBusy` and `sqlite3.Error`."""
        if not self._turn.acquire(blocking=False):
            with _waiting(self._writers):
                if not self._turn.acquire(timeout=PATIENCE):
                    raise DatabaseBusy
        try:
            with self._translated_errors(), closing(self._begin("BEGIN IMMEDIATE", PATIENCE)) as connection, connection:
                yield connection
        finally:
            self._turn.release()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _is_busy(error):
                raise DatabaseBusy from error
            error.add_note(f"the database is {self._path}")  # SQLite does not give the path
            raise

    def _begin(self, begin: str, patience: float) -> sqlite3.Connection:
        """Return a connection in a transaction that holds its lock, so that reading from it does not wait."""
        create(self._path, b"")
        connection = sqlite3.connect(self._path, timeout=patience, isolation_level=None)
        try:
            if _version(connection) < VERSION:
                self._upgrade(connection)
            connection.execute(begin)
            _version(connection)  # BEGIN takes a lock with the first statement
        except BaseException:
            connection.close()
            raise
        return connection

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Create the tables of a new file; move the users of an earlier version to the users file."""
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            version = _version(connection)
            if version == VERSION:
                return  # another process was first
            if version == 0:
                create_users(self._users, EXAMPLES)
                for statement in TABLES:
                    connection.execute(statement)
                query = "INSERT INTO payment (debit, credit, dollars, memo) VALUES (?, ?, ?, ?)"
                connection.executemany(query, PAYMENTS)
            else:
                # The user table is kept, in case an existing users file lacks some of them.
                create_users(self._users, converted(connection.execute("SELECT name, password FROM user")))
            connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def _waiting(places: BoundedSemaphore) -> Iterator[None]:
    """Occupy one of the places for waiting threads.  Raises `DatabaseBusy` if all are taken."""
    if not places.acquire(blocking=False):
        raise DatabaseBusy
    try:
        yield
    finally:
        places.release()


def _is_busy(error: sqlite3.Error) -> bool:
    # The low byte of an extended error code is the primary code.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
