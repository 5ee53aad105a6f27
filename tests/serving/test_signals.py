"""Handlers of signals, in this process."""

from __future__ import annotations

import signal
import threading

from daemons.serving import signals
from daemons.serving.waker import Waker


def test_blocked_signals_are_delivered_afterwards() -> None:
    waker = Waker()
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    signals.install_handlers(waker)
    try:
        with signals.blocked():
            signal.pthread_kill(threading.get_ident(), signal.SIGHUP)  # another thread would hear it
            assert waker.receive() == []
        assert waker.receive() == [signal.SIGHUP]
    finally:
        signals.reset_signals()
        for number, handler in before.items():
            signal.signal(number, handler)
        waker.close()
