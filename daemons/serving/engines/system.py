"""System calls of the parent of several workers, which the simulation in ``tests/simulation`` replaces."""

from __future__ import annotations

import math
import os
import selectors
import signal
import time

from daemons.serving import signals
from daemons.serving.waker import Waker


class System:
    """The functions of the operating system, under their own names."""

    monotonic = staticmethod(time.monotonic)
    close = staticmethod(os.close)
    fork = staticmethod(os.fork)
    getpid = staticmethod(os.getpid)
    getppid = staticmethod(os.getppid)
    kill = staticmethod(os.kill)
    pipe = staticmethod(os.pipe)
    read = staticmethod(os.read)
    waitpid = staticmethod(os.waitpid)
    blocked = staticmethod(signals.blocked)
    reset_signals = staticmethod(signals.reset_signals)

    def install_handlers(self, waker: Waker) -> None:
        """Write the numbers of `signals.SIGNALS` and SIGCHLD to `waker` as they arrive."""
        signals.install_handlers(waker, signal.SIGCHLD)

    def stop_requested(self) -> bool:
        """Return whether a signal of `signals.STOPPING` has arrived, also if the waker was full and has lost it."""
        return signals.stop_received < math.inf

    def cut_requested(self) -> bool:
        """Return whether `signals.CUT` has arrived, likewise."""
        return signals.cut_received < math.inf

    def make_waker(self) -> Waker:
        return Waker()

    def make_selector(self) -> selectors.BaseSelector:
        return selectors.DefaultSelector()
