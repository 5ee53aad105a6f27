"""What a talk may yield in place of a reply."""

from __future__ import annotations

from daemons.serving.conversation.reply import Reply


class Step:
    """Base class: a reply, which may be None, and an action after it."""

    __slots__ = ("reply",)

    def __init__(self, reply: Reply | None = None) -> None:
        self.reply = reply


class Wait(Step):
    """Send `reply`, then wait until another thread or talk calls `Peer.notify`, for at most `timeout` seconds.

    ``value = yield Wait(reply, timeout)`` is the value passed to `Peer.notify`, or None after the timeout.  Without a
    timeout, the wait ends only with a value or with the conversation.  While the talk waits, nothing is received from
    the peer, and ``[limits] idle_timeout`` does not apply.
    """

    __slots__ = ("timeout",)

    def __init__(self, reply: Reply | None = None, timeout: float | None = None) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"Wait: timeout={timeout}; a number of seconds, 0 or more, is expected")
        super().__init__(reply)
        self.timeout = timeout
