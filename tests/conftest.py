"""What holds for every test: it leaves nothing behind, and hypothesis judges answers, never speed."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from tests.leaks import Snapshot, clear

# No deadline: how long an example takes says something about the machine, not about the daemons.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fails the test that leaves a thread, a descriptor, a child process or a changed signal handler.

    It is set up before the other fixtures of a test and torn down after them."""
    before = Snapshot.take()
    yield
    if leaks := before.leaks():
        clear(before)
        pytest.fail("left behind:\n" + "\n".join(leaks), pytrace=False)
