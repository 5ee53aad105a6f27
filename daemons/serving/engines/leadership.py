"""Who watches, under ``engine = pool``, that nobody waits for a thread that leads and is long about its answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from daemons.serving.daemon import BUG_REST
from daemons.serving.engines.pool_poller import STALL, PoolPoller
from daemons.serving.safe_logger import SafeLogger

if TYPE_CHECKING:
    from daemons.serving.engines.flow import LoopConnection

log = SafeLogger(__name__)

#: Looks at an idle leader before the watchman sleeps until there is something to look at.
QUIET_LOOKS = 25


class StallDetector:
    """Looks whether the leader, who answers on the spot, is still at the same message."""

    def __init__(self, poller: PoolPoller) -> None:
        self._poller = poller
        self._quiet = 0

    def look_safely(self) -> None:
        """`look`; a bug in it must not end the thread without which nobody takes over from a leader that stalls."""
        try:
            self.look()
        except Exception:
            log.exception("the watch over the pool's leader failed; it goes on in %d ms", BUG_REST * 1000)
            time.sleep(BUG_REST)

    def look(self) -> None:
        """Look twice, `STALL` apart; or sleep, where there has been nothing to see for a while."""
        before = self._mark()
        if before is None and self._quiet > QUIET_LOOKS:
            self._sleep()
            return
        time.sleep(STALL)
        if before is None:
            self._quiet += 1
        elif before == self._mark():
            self._take_over()
        else:
            self._quiet = 0

    def _mark(self) -> tuple[LoopConnection, int] | None:
        """What is being answered: the octets received from a peer go up with each message."""
        hand = self._poller.hand[-1:]
        return (hand[0], hand[0].received) if hand else None

    def _sleep(self) -> None:
        poller = self._poller
        self._quiet = 0
        poller.news.clear()
        poller.watchman_sleeps = True
        if not poller.hand:
            poller.news.wait()

    def _take_over(self) -> None:
        poller = self._poller
        try:
            flow = poller.hand.pop()
        except IndexError:
            return  # it has its reply after all
        # From here on this thread leads; the other learns of it when it looks for the flow in its hand.
        poller.lease = None
        poller.last_slow = time.monotonic()
        poller.handing_over = True
        poller.suspend(flow)
