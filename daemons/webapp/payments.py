"""Payments stored in the database."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

#: Maximum number of payments shown.
MOST_SHOWN = 100


class Payment(NamedTuple):
    """A payment from the account `debit` to the account `credit`."""

    debit: str
    credit: str
    dollars: int
    memo: str


def of(connection: sqlite3.Connection, account: str) -> list[Payment]:
    """Return the newest payments from and to `account`, the oldest first."""
    query = "SELECT debit, credit, dollars, memo FROM payment WHERE debit = ? OR credit = ? ORDER BY id DESC LIMIT ?"
    return [Payment(*row) for row in connection.execute(query, (account, account, MOST_SHOWN))][::-1]


def add(connection: sqlite3.Connection, debit: str, credit: str, dollars: int, memo: str) -> None:
    """Add a payment."""
    query = "INSERT INTO payment (debit, credit, dollars, memo) VALUES (?, ?, ?, ?)"
    connection.execute(query, (debit, credit, dollars, memo))
