"""Probes of the engines for the monitor of stalls."""

from __future__ import annotations

from daemons.serving.engines.pool_poller import PoolPoller
from daemons.serving.engines.stall_probes import PoolProbe


def test_a_pool_is_stuck_only_while_the_same_message_waits() -> None:
    poller = PoolPoller()
    try:
        probe = PoolProbe(poller)
        assert probe.stuck_since(1.0) is None
        poller.put(None)
        poller.put(None)
        assert (probe.stuck_since(2.0), probe.stuck_since(2.5)) == (2.0, 2.0)
        # One goes and one comes: the second waits since the first look.
        poller.jobs.get()
        poller.put(None)
        assert probe.stuck_since(3.0) == 2.0
        poller.jobs.get()
        assert probe.stuck_since(4.0) == 3.0
        poller.jobs.get()
        assert probe.stuck_since(5.0) is None
    finally:
        poller.close()
