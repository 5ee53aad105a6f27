"""The database: a file of SQLite that is made on first use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import BoundedSemaphore, Lock

from daemons.webapp.creation import create
from daemons.webapp.customers import EXAMPLES, converted, create_users

#: Seconds to wait for another connection that writes.
PATIENCE = 5.0

#: Threads that wait for so long, those that would read and those that would write.  With the one that writes they are
#: ten of the 16 threads of ``engine = pool``: so the others serve what needs no database.
WAITING_READERS, WAITING_WRITERS = 2, 7

#: Seconds that any thread waits: while another connection commits, nobody can read.
SHORT = 0.02

#: Of the tables below.  Version 1 had the users, too.
VERSION = 2

TABLES = (
    "CREATE TABLE payment (id INTEGER PRIMARY KEY, debit TEXT NOT NULL, credit TEXT NOT NULL,"
    " dollars INTEGER NOT NULL CHECK (dollars > 0), memo TEXT NOT NULL)",
    "CREATE INDEX payment_debit ON payment (debit)",
    "CREATE INDEX payment_credit ON payment (credit)",
    # The id is the hash of a session's: it is of no use to a reader of the database.
    "CREATE TABLE session (id TEXT PRIMARY KEY, user TEXT NOT NULL, until REAL NOT NULL)",
)

PAYMENTS = (
    ("brandon", "psf", 125, "Registration for PyCon"),
    ("brandon", "liz", 200, "Payment for writing that code"),
    ("sam", "brandon", 25, "Gas money-thanks for the ride!"),
)


class DatabaseBusy(Exception):
    """Other connections have written for longer than `PATIENCE`, or too many threads wait for them; nothing has been
    changed."""


class Database:
    """The file at `path`, and the users file at `users`, which is made with it.  Each `read` and `write` is a
    connection of its own, for threads and forks alike.  Nothing but SQLite may open the file: see `create`."""

    def __init__(self, path: Path, users: Path) -> None:
        self._path = path
        self._users = users
        #: SQLite has a connection that finds another writing sleep and try again, and one may starve.  So the threads
        #: of a process take turns.
        self._turn = Lock()
        self._readers = BoundedSemaphore(WAITING_READERS)
        self._writers = BoundedSemaphore(WAITING_WRITERS)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction.  Raises `OSError`, `DatabaseBusy` and `sqlite3.Error`."""
        with self._noted():
            try:
                connection = self._begun("BEGIN", SHORT)
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                with _waiting(self._readers):
                    connection = self._begun("BEGIN", PATIENCE)
            with closing(connection), connection:
                yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction that may write: committed at the end, or, after an exception, rolled back.
        Only when this has returned is anything on the disk.  Raises `OSError`, `DatabaseBusy` and `sqlite3.Error`."""
        if not self._turn.acquire(blocking=False):
            with _waiting(self._writers):
                if not self._turn.acquire(timeout=PATIENCE):
                    raise DatabaseBusy
        try:
            with self._noted(), closing(self._begun("BEGIN IMMEDIATE", PATIENCE)) as connection, connection:
                yield connection
        finally:
            self._turn.release()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _is_busy(error):
                raise DatabaseBusy from error
            error.add_note(f"the database is {self._path}")  # SQLite does not say
            raise

    def _begun(self, begin: str, patience: float) -> sqlite3.Connection:
        """Return a connection in a transaction that has its lock: what is read in it is there without waiting."""
        create(self._path, b"")
        connection = sqlite3.connect(self._path, timeout=patience, isolation_level=None)
        try:
            if _version(connection) < VERSION:
                self._upgrade(connection)
            connection.execute(begin)
            _version(connection)  # BEGIN alone takes no lock
        except BaseException:
            connection.close()
            raise
        return connection

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Make the tables of a new file; move the users of an earlier one to the users file."""
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
                # The table stays, in case there is a users file already that has not all of them.
                create_users(self._users, converted(connection.execute("SELECT name, password FROM user")))
            connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def _waiting(places: BoundedSemaphore) -> Iterator[None]:
    """Take one of the places of threads that wait.  Raises `DatabaseBusy` where there is none."""
    if not places.acquire(blocking=False):
        raise DatabaseBusy
    try:
        yield
    finally:
        places.release()


def _is_busy(error: sqlite3.Error) -> bool:
    # The code, or one of its extended codes.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
