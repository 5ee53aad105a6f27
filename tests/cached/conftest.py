"""A memcached for the tests of a module, and a conversation with the cache."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cached.memcached import Memcached
from tests.cached.seam import Seam


@pytest.fixture(scope="module")
def memcached() -> Iterator[Memcached]:
    # A short path: one of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="mc-") as folder:
        running = Memcached(Path(folder))
        yield running
        running.close()


@pytest.fixture
def cache() -> Seam:
    """A cache with its default options."""
    return Seam()


@pytest.fixture
def ask(cache: Seam) -> Callable[[bytes], bytes]:
    return cache.ask
