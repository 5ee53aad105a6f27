"""The waker: a socket pair that wakes a poller."""

from __future__ import annotations

import signal

from daemons.serving.waker import Waker


def test_waker_returns_each_signal_once() -> None:
    waker = Waker()
    waker.wake()
    waker.writer.send(bytes((signal.SIGHUP, 0, signal.SIGTERM)))
    assert waker.receive() == [signal.SIGHUP, signal.SIGTERM]
    assert waker.receive() == []
    waker.close()


def test_wake_never_blocks_and_never_raises() -> None:
    waker = Waker()
    for _ in range(100_000):
        waker.wake()
    assert waker.receive() == []
    waker.close()
    waker.wake()
