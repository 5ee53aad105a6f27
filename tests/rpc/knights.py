"""What the clients of these tests call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from daemons import idempotent
from tests.rpc.calling import server_for
from tests.serving.running import Within


class Knights:
    """What is published here.

    The rest of this is on the page."""

    def __init__(self) -> None:
        self.called = 0

    @idempotent
    def same(self, value: object) -> object:
        """Gives it back."""
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
