"""Free memory is returned to the system while the memory budget is half used."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from daemons.serving import malloc
from daemons.serving.guards.limits import Limits
from daemons.serving.pump import Pump
from tests.serving.peers import DEADLINE, connect
from tests.serving.running import Within
from tests.serving.services import Wide


def test_memory_is_trimmed_only_while_the_budget_is_half_used(
    within: Callable[..., Within], monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed = Event()
    monkeypatch.setattr(malloc, "trim", trimmed.set)
    running = within("loop", Pump.for_service(Wide()), Limits(held=64 * 1024, message_timeout=1.0))
    with connect(running.address) as peer:
        peer.sendall(b"a" * 100)
        assert not trimmed.wait(0.6)  # two ticks
        peer.sendall(b"a" * 40_000)
        assert trimmed.wait(DEADLINE)


def test_nothing_happens_before_malloc_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc, "_trim", None)
    malloc.trim()


def test_trim_calls_malloc_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    monkeypatch.setattr(malloc, "_trim", called.append)
    malloc.trim()
    assert called == [0]
