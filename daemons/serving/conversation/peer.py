"""The peer of a conversation, as passed to `Service.talk`: its address, and messages pushed to it."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable

#: Maximum number of values passed to `Peer.notify` for which the talk has not waited yet.
MAX_VALUES = 1024

#: Maximum bytes of unsent pushes, unless ``[limits] outbox`` sets another number.
OUTBOX = 256 * 1024


class PeerGone(ConnectionError):
    """Raised by `Peer.send` and `Peer.notify` after the conversation has ended."""


class Peer:
    """The peer of one conversation.  Two peers are equal only if they are the same object, so a set may hold them.

    `send` and `notify` may be called from any thread, and do not block."""

    __slots__ = (
        "_encode",
        "_limit",
        "_lock",
        "_pushes",
        "_size",
        "_values",
        "_wake",
        "address",
        "can_start_tls",
        "certificate",
        "gone",
        "has_closed",
        "host",
        "is_reset",
        "overflowed",
        "secure",
    )

    def __init__(
        self,
        address: str = "unknown",
        host: str = "0.0.0.0",
        secure: bool = False,
        is_reset: Callable[[], bool] = bool,
        has_closed: Callable[[], bool] = bool,
        wake: Callable[[], object] = bool,
        outbox: int = OUTBOX,
    ) -> None:
        #: Address as logged: ``127.0.0.1:53412``, ``[::1]:53412`` or ``unix:pid=42,uid=1000``.
        self.address = address
        #: IP address without the port, or ``unix``: common to all connections of one host.
        self.host = host
        #: Whether the connection uses TLS.
        self.secure = secure
        #: Subject of the verified client certificate, as in RFC 4514: ``CN=Arthur,O=Camelot``; None if there is none.
        self.certificate: str | None = None
        #: Whether the talk may yield `StartTLS`: it has not done so yet, and the listener has a certificate.
        self.can_start_tls = False
        #: Return whether nothing can be sent to the peer any more.  Always False unless the service `blocks`.
        self.is_reset = is_reset
        #: Return whether the peer has closed at least its sending half.  It may still read.
        self.has_closed = has_closed
        #: Whether the conversation has ended.
        self.gone = False
        #: Whether it ended because the peer did not read its pushes.
        self.overflowed = False
        # Tells the engine that there is a push or a value.
        self._wake = wake
        self._limit = outbox
        self._encode: Callable[[bytes], bytes] | None = None
        self._lock = _LOCK
        # Created on first use: most peers are never sent anything.
        self._pushes: deque[bytes] | None = None
        self._size = 0
        self._values: deque[object] | None = None

    def __repr__(self) -> str:
        return f"<Peer {self.address}>"

    def send(self, message: bytes) -> None:
        """Push a message: it is sent in the order of the calls, and never inside another message.

        It is encoded by the framing, and buffered until the connection can take it.  If more than ``[limits] outbox``
        bytes are buffered, the conversation ends.  Raises `PeerGone` if it has ended, and `TypeError` if `message` is
        not bytes."""
        if not isinstance(message, bytes):
            raise TypeError(f"Peer.send: bytes are expected, not {type(message).__name__}")
        if self.gone:  # then the framing cannot refuse the message either
            raise PeerGone(f"{self.address}: the conversation has ended")
        encode = self._encode
        data = message if encode is None else encode(message)
        if self._pushes is None:
            pushes: deque[bytes] = deque()
        with self._lock:
            while encode is not self._encode:  # the talk has changed the framing meanwhile
                encode = self._encode
                data = message if encode is None else encode(message)
            if self.gone:
                raise PeerGone(f"{self.address}: the conversation has ended")
            if self._pushes is None:
                self._pushes = pushes
            self._size += len(data)
            if overflowed := self._size > self._limit:
                self.gone = self.overflowed = True
                self._pushes.clear()
                self._size = 0
            else:
                self._pushes.append(data)
        self._wake()
        if overflowed:
            raise PeerGone(f"{self.address}: more than {self._limit} bytes were not read")

    def notify(self, value: object = True) -> None:
        """Pass `value` to the talk, as the result of its `Wait`: of the present one, or else of the next.

        Raises `PeerGone` if the conversation has ended, and `queue.Full` if the talk has not waited for the last
        `MAX_VALUES` values."""
        with self._lock:
            if self.gone:
                raise PeerGone(f"{self.address}: the conversation has ended")
            if self._values is None:
                self._values = deque()
            if len(self._values) >= MAX_VALUES:
                raise queue.Full(f"{self.address}: {MAX_VALUES} values, for which the talk has not waited")
            self._values.append(value)
        self._wake()

    # --- called by the conversation ----------------------------------------------------------------

    def begin(self, encode: Callable[[bytes], bytes] | None) -> None:
        """Encode messages with `encode` from now; None: messages are sent unchanged."""
        self._encode = encode

    def switch(self, encode: Callable[[bytes], bytes] | None) -> bytes:
        """Return what `take` returns, and encode later messages with `encode`."""
        with self._lock:
            data, self._size = b"".join(self._pushes or ()), 0
            if self._pushes:
                self._pushes.clear()
            self._encode = encode
        return data

    @property
    def pushed(self) -> int:
        """Bytes of pushes that are not sent yet."""
        return self._size

    def take(self) -> bytes:
        """Return the bytes of all unsent pushes, and remove them."""
        with self._lock:
            pushes = self._pushes
            if not pushes:
                return b""
            data = pushes[0] if len(pushes) == 1 else b"".join(pushes)
            pushes.clear()
            self._size = 0
        return data

    @property
    def notified(self) -> bool:
        """Whether a value is waiting for the talk."""
        return bool(self._values)

    def take_value(self) -> object:
        """Return the oldest value, and remove it; None if there is none."""
        values = self._values
        return values.popleft() if values else None

    def leave(self) -> None:
        """Refuse further pushes and values, and discard the earlier ones: the conversation has ended."""
        with self._lock:
            self.gone = True
            self._pushes = self._values = None
            self._size = 0
        self._wake = bool  # it may refer to the connection: break the cycle


#: One lock for all peers of a process: it is held for a few list operations, and a lock per peer would cost 40 bytes.
#: Reentrant, since the garbage collector may close a talk at any allocation, and its ``finally`` may push.
_LOCK = threading.RLock()
