"""A running cache, and clients of it that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from daemons.cached import Cached
from daemons.caching import Cache
from daemons.serving.pump import Pump
from tests.serving.conftest import within as within
from tests.serving.running import Within


def address_of(running: Within) -> str:
    return f"127.0.0.1:{running.address[1]}"


@pytest.fixture
def server(within: Callable[..., Within]) -> Within:
    """A cache that listens on a free port."""
    return within("loop", Pump.for_service(Cached()))


@pytest.fixture
def client() -> Iterator[Callable[..., Cache]]:
    """Make a client of some servers, with a long timeout, since tests run on busy machines."""
    with ExitStack() as stack:

        def make(*servers: str, timeout: float = 15.0) -> Cache:
            made = Cache(servers, timeout)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def cache(server: Any, client: Callable[..., Cache]) -> Cache:
    return client(address_of(server))
