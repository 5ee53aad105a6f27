"""Pushes to the peer of a blocking engine, from any thread."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from daemons.serving.conclude import BETWEEN_MESSAGES, STOPPED, STUCK, expect_next
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import IDLE, OVER, PENDING, WAITING
from daemons.serving.waiting import is_over

if TYPE_CHECKING:
    from daemons.serving.connection import BlockingConnection
    from daemons.serving.conversation.conversation import Conversation
    from daemons.serving.stream import StreamServer


class Pusher:
    """Sends pushes to one peer while the thread of its conversation waits for input.

    That thread holds the lock, except while it waits.  Another thread that has pushed something tries to get the lock:
    if it succeeds, it sends the bytes itself, as far as the socket takes them without waiting; else the thread of the
    conversation sends them before it waits.  So a push never blocks.
    """

    def __init__(
        self, request: socket.socket, connection: BlockingConnection, conversation: Conversation, server: StreamServer
    ) -> None:
        self._request = request
        self._connection = connection
        self._conversation = conversation
        self._server = server
        self._lock = threading.Lock()
        self._lock.acquire()
        self._held = True
        #: Bytes that the socket has not taken.
        self._unsent = b""
        #: Whether a thread has called `notify` since the last attempt to send began.
        self._again = False
        #: Set when there may be something to do for a talk that waits.
        self._notified = threading.Event()

    # --- in the thread of the conversation ---------------------------------------------------------

    def acquire(self) -> None:
        """Keep other threads from sending.  A second call does nothing."""
        if not self._held:
            self._lock.acquire()
            self._held = True

    def release(self) -> None:
        """Let other threads send; then send earlier pushes."""
        self._held = False
        self._lock.release()
        if self._conversation.pushed or self._unsent:
            self.notify()

    def take_unsent(self) -> bytes:
        """Return the rest of what another thread has begun to send.  The lock must be held."""
        unsent, self._unsent = self._unsent, b""
        return unsent

    def wait(self, timeout: float | None) -> bool:
        """Wait until the talk has got a value, or `timeout` seconds have passed.

        Return False if the connection was reset or cut."""
        until = None if timeout is None else time.monotonic() + timeout
        spool = self._connection.spool
        self.release()
        alive = True
        while not (self._conversation.ready or self._conversation.overflowed):
            left = CHECK if until is None else min(CHECK, until - time.monotonic())
            alive = self._connection.ending is None and not is_over(self._request)
            if left <= 0 or not alive:
                break
            if self._unsent or (spool is not None and spool.flush()):
                # No other thread sends the bytes of a spool, or the rest of a push in a process without a loop.
                left = min(left, RETRY)
                self.notify()
                self._notified.clear()
            self._notified.wait(left)
            self._notified.clear()
        self.acquire()
        return alive

    # --- in any thread -----------------------------------------------------------------------------

    def notify(self) -> None:
        """Send pushes, unless another thread is about to; continue a talk that waits.  Does not block."""
        conversation = self._conversation
        # Set before the attempt to get the lock: if that fails, its holder sees it after the release.  Otherwise the
        # only event for a writable socket, in the daemon's thread, could come while this lock is still held.
        self._again = True
        # A connection that was cut takes nothing more.
        while (
            (conversation.pushed or self._unsent)
            and self._connection.ending is None
            and self._lock.acquire(blocking=False)
        ):
            try:
                self._again = False
                self._send()
            finally:
                self._lock.release()
            if self._unsent and not self._again:
                break
        self._notified.set()
        if conversation.overflowed and self._connection.ending is None:
            self._server.cut_connection(self._connection, STUCK)

    def close(self) -> None:
        """Send nothing more: the connection is about to be closed."""
        self.acquire()
        self._connection.on_notify = None
        if (daemon := self._server.daemon) is not None:
            daemon.poller.forget_writable(self._request)

    def _send(self) -> None:
        """Send as much as the socket takes without waiting."""
        conversation, connection = self._conversation, self._connection
        while conversation.state != OVER:
            data = self._unsent or (conversation.proceed() if conversation.state == PENDING else conversation.deliver())
            if not data:
                break
            try:
                sent = self._put(data)
            except (BlockingIOError, TimeoutError):
                sent = 0
            except OSError:
                self._unsent = b""
                # A socket reports an error once: the thread of the conversation would see the end of the input instead.
                connection.ending = connection.ending or Ending.RESET
                return
            connection.sent += sent
            self._unsent = data[sent:]
            if self._unsent:
                self._wait_for_room()
                return
        if connection.timeout_ending is STUCK or connection.timeout_ending is BETWEEN_MESSAGES:
            state = WAITING if conversation.state == WAITING else IDLE
            expect_next(connection, state, self._server.limits, answered=True)
            if connection.charged:
                hold = self._server.hold_waiting if state == WAITING else self._server.hold
                hold(connection, conversation.buffered)

    def _put(self, data: bytes) -> int:
        spool = self._connection.spool
        return self._request.send(data, socket.MSG_DONTWAIT) if spool is None else spool.push(data)

    def _wait_for_room(self) -> None:
        """Continue when the socket takes more, in the daemon's thread."""
        connection, daemon = self._connection, self._server.daemon
        self._server.hold(connection, len(self._unsent) + self._conversation.buffered, writing=True)
        if connection.timeout_ending is BETWEEN_MESSAGES or connection.timeout_ending is STOPPED:
            connection.expect(STUCK, self._server.limits.write_timeout)
        if daemon is not None:
            with suppress(OSError, ValueError):  # closed meanwhile, or in a forked child
                daemon.poller.call_when_writable(self._request, self.notify)


#: Seconds between two attempts to send unsent bytes while a talk waits.
RETRY = 0.02

#: Maximum seconds between two checks whether a peer has reset its connection while its talk waits.
CHECK = 1.0
