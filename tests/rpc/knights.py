"""Published methods for the tests of clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from daemons import idempotent
from tests.rpc.calling import server_for
from tests.serving.running import Within


class Knights:
    """Methods of the knights.

    This paragraph is not on the page."""

    def __init__(self) -> None:
        self.called = 0

    @idempotent
    def same(self, value: object) -> object:
        """Return the value."""
        return value

    def say(self, text: str) -> str:
        raise ValueError(text)

    def count(self) -> int:
        self.called += 1
        return self.called


@contextmanager
def running(engine: str = "loop", **options: Any) -> Iterator[Any]:
    handler, kind = server_for(Knights(), engine=engine, **options)
    there = Within(kind, handler)
    try:
        yield there
    finally:
        there.close()
