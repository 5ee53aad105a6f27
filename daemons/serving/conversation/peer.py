"""The peer of a conversation, as passed to `Service.talk`."""

from __future__ import annotations

from collections.abc import Callable


class Peer:
    """The peer of one conversation.  Two peers are equal only if they are the same object, so a set may hold them."""

    __slots__ = ("address", "has_closed", "host", "is_reset", "secure")

    def __init__(
        self,
        address: str = "unknown",
        host: str = "0.0.0.0",
        secure: bool = False,
        is_reset: Callable[[], bool] = bool,
        has_closed: Callable[[], bool] = bool,
    ) -> None:
        #: Address as logged: ``127.0.0.1:53412``, ``[::1]:53412`` or ``unix:pid=42,uid=1000``.
        self.address = address
        #: IP address without the port, or ``unix``: common to all connections of one host.
        self.host = host
        #: Whether the connection uses TLS.
        self.secure = secure
        #: Return whether nothing can be sent to the peer any more.  Always False unless the service `blocks`.
        self.is_reset = is_reset
        #: Return whether the peer has closed at least its sending half.  It may still read.
        self.has_closed = has_closed

    def __repr__(self) -> str:
        return f"<Peer {self.address}>"
