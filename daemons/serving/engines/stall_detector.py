"""Detection of a blocked leader in ``engine = pool``, within milliseconds, in order to take the lead.

Stalls of a second and more, under any engine, are logged by `daemons.serving.engines.stall_monitor`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from daemons.serving.daemon import BUG_PAUSE
from daemons.serving.engines.pool_poller import TAKEOVER, PoolPoller
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.engines.loop_connection import LoopConnection

log = SafeLogger(__name__)

#: Samples of an idle leader before the detector sleeps until the next event.
QUIET_SAMPLES = 25


class StallDetector:
    """Take the lead if the leading thread, which calls the service itself, stays at one message for too long."""

    def __init__(self, poller: PoolPoller) -> None:
        self._poller = poller
        self._quiet = 0

    def sample_safely(self) -> None:
        """Call `sample`, and log an exception: without the detector, a blocked leader would block the daemon."""
        try:
            self.sample()
        except Exception:
            log.exception("pool: stall detector failed; it continues in %d ms", BUG_PAUSE * 1000)
            time.sleep(BUG_PAUSE)

    def sample(self) -> None:
        """Take two samples `TAKEOVER` seconds apart, or sleep if the leader has been idle for a while."""
        before = self._message_in_service()
        if before is None and self._quiet > QUIET_SAMPLES:
            self._sleep()
            return
        time.sleep(TAKEOVER)
        if before is None:
            self._quiet += 1
        elif before == self._message_in_service():
            self.take_over()
        else:
            self._quiet = 0

    def _message_in_service(self) -> tuple[LoopConnection, int] | None:
        """Identify the message in service: its connection, and the bytes received, which grow with each message."""
        in_service = list(self._poller.in_service)
        return (in_service[0], in_service[0].received) if in_service else None

    def _sleep(self) -> None:
        poller = self._poller
        self._quiet = 0
        poller.detector_wakeup.clear()
        poller.detector_sleeps = True
        # The leader clears `waiting`, then reads `detector_sleeps`: if it is past that, a message may be about to be in
        # service.
        if poller.waiting:
            poller.detector_wakeup.wait()

    def take_over(self) -> None:
        """Take the lead if a message is in service."""
        poller = self._poller
        with poller.handover:
            try:
                connection, _ = poller.in_service.popitem()
            except KeyError:
                return  # the reply became ready meanwhile
            # This thread leads from here on; the blocked one notices when it does not find its connection in
            # `in_service`, and then waits for the lock.
            poller.lease = None
            poller.last_slow = time.monotonic()
            poller.offloading = True
            poller.suspend(connection)
