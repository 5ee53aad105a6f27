"""Steps, which a talk may yield in place of replies."""

from __future__ import annotations

from daemons.framings import Framing
from daemons.serving.conversation.reply import Reply


class Step:
    """Base class: a reply, which may be None, and an action after it."""

    __slots__ = ("reply",)

    def __init__(self, reply: Reply | None = None) -> None:
        if isinstance(reply, Step):
            raise TypeError(
                f"{type(self).__name__}: a reply is expected, not {type(reply).__name__}: one step at a time"
            )
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


class SwitchFraming(Step):
    """Send `reply`, encoded by the present framing, then change to `framing`.

    ``message = yield SwitchFraming(reply, framing)`` is the first message in the new framing.  It begins with the first
    byte behind the message that is being answered, even if the peer sent both at once.  Later replies and pushes are
    encoded by the new framing.  The class of the service declares ``switches = True``.  Raises `TypeError` for a
    framing that cannot decode one message at a time: see `Framing.steps`.
    """

    __slots__ = ("framing",)

    def __init__(self, reply: Reply | None, framing: Framing) -> None:
        super().__init__(reply)
        check_steps("SwitchFraming", framing)
        self.framing = framing


class StartTLS(Step):
    """Send `reply` in clear, then begin TLS on the same connection.

    ``message = yield StartTLS(reply)`` is the first encrypted message; then ``peer.secure`` is true.  If the peer has
    sent anything in clear behind the message that is being answered, the conversation ends as malformed, and the reply
    is not sent: such bytes may have been injected (CVE-2011-0411, CVE-2021-38371).  The class of the service declares
    ``starts_tls = True``.  Only if ``peer.can_start_tls`` is true; otherwise the conversation ends as failed.
    """

    __slots__ = ()

    def __init__(self, reply: bytes | None = None) -> None:
        if reply is not None and not isinstance(reply, bytes):
            raise TypeError(f"StartTLS: the reply is {type(reply).__name__}; bytes or None are expected")
        super().__init__(reply)


def check_steps(where: str, framing: Framing) -> None:
    """Raise `TypeError` if `framing` cannot decode one message at a time; its text begins with `where`."""
    if not isinstance(framing, Framing):
        raise TypeError(f"{where}: a framing is expected, not {type(framing).__name__}")
    if not framing.steps:
        name = type(framing).__name__
        raise TypeError(f"{where}: {name} cannot decode one message at a time; define decode_one() in its decoder")
