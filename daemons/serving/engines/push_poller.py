"""Pushes to peers and talks that wait, in an event loop."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from daemons.serving.conclude import STUCK, expect_next
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.states import IDLE, WAITING
from daemons.serving.engines.connection_poller import ConnectionPoller
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.safe_call import call_safely
from daemons.serving.timers import Timers

if TYPE_CHECKING:
    from daemons.serving.interfaces import Leader


class PushPoller(ConnectionPoller):
    """Poller that sends pushes, and continues talks that wait.

    Both happen in the action of the daemon's waker, so they cost nothing in a turn without them, and all pushes to a
    peer in one turn are sent together."""

    def __init__(self) -> None:
        super().__init__()
        #: Wakes the leading thread.
        self.wake: Callable[[], None] = lambda: None
        self._timers = Timers()
        #: Connections with something to send, or with a value for their talk.
        self._pushed: dict[LoopConnection, None] = {}
        self._push_lock = threading.Lock()

    @abstractmethod
    def unsent(self, connection: LoopConnection) -> int:
        """Return the bytes of memory held by the reply that is being sent."""

    @abstractmethod
    def deliver(self, connection: LoopConnection, reply: bytes, answered: bool) -> None:
        """Send bytes, then act on the state of the conversation."""

    def attach(self, daemon: Leader) -> None:
        self.wake, self._timers = daemon.wake, daemon.timers
        daemon.on_wake.append(self._handle_pushed)

    def push(self, connection: LoopConnection) -> None:
        """Send pushes to the peer, or continue its talk that waits, in the next turn.  Thread-safe."""
        with self._push_lock:
            first = not self._pushed
            self._pushed[connection] = None
        if first:
            self.wake()

    def _handle_pushed(self) -> None:
        with self._push_lock:
            pushed, self._pushed = self._pushed, {}
        self._resumed.clear()
        for connection in pushed:
            call_safely(self._deliver_pushed, connection)

    def _deliver_pushed(self, connection: LoopConnection) -> None:
        conversation = connection.existing_conversation
        if conversation is None or connection.ending is not None or not connection.server.holds(connection):
            return
        if connection.suspended:
            return  # a worker is serving it; pushes are sent with the reply or after it
        if conversation.overflowed:
            self._end(connection, STUCK)
        elif conversation.state == WAITING and connection in self._waits and conversation.ready:
            self._continue_talk(connection)
        elif self._may_send(connection) and (data := conversation.deliver()):
            # To an idle peer, a push restarts idle_timeout.
            self.deliver(connection, data, conversation.state == IDLE)
        elif connection.timeout_ending is STUCK:
            connection.server.hold(connection, self.unsent(connection) + conversation.buffered, writing=True)

    def _may_send(self, connection: LoopConnection) -> bool:
        """Whether nothing is being sent to the peer, so that something may be pushed to it."""
        if connection in self._waits:
            return connection.timeout_ending is not STUCK
        return self.reading_connections.get(connection.descriptor) is connection

    def _wait_for_value(self, connection: LoopConnection, conversation: Conversation) -> None:
        """Do not read from the peer until the talk has got a value, or its timeout has passed."""
        expect_next(connection, WAITING, connection.server.limits, answered=True)
        if connection.charged or conversation.buffered:
            connection.server.hold_waiting(connection, conversation.buffered)
        self.reading_connections.pop(connection.descriptor, None)
        self._actions[connection.descriptor] = partial(self._handle_event_unread, connection)
        self._epoll.modify(connection.descriptor, self._interest_unread(connection))
        if connection not in self._waits:
            self._waits[connection] = None
            conversation.call_when_ready(partial(self.push, connection))
            if (timeout := conversation.timeout) is not None:
                end_wait = partial(self._end_wait, connection)
                self._waits[connection] = self._timers.call_at(time.monotonic() + timeout, end_wait)
        elif (timer := self._waits[connection]) is not None and timer.action is None:
            self._continue_talk(connection)  # the time has passed while a push was being sent
            return
        if conversation.ready or conversation.pushed:
            self.push(connection)

    def _end_wait(self, connection: LoopConnection) -> None:
        """Continue the talk after its timeout."""
        self._continue_talk(connection)
        if self._ended:
            # Timers run before the wait for events, which closes ended connections only at its end.
            self._log_and_close_ended()

    def _continue_talk(self, connection: LoopConnection) -> None:
        """Read from the peer again, and pass the value, or None after a timeout, to the talk."""
        if not self._may_send(connection):
            return  # when the rest of a push is sent, `_wait_for_value` is called again
        self._stop_waiting(connection)
        self._actions.pop(connection.descriptor, None)
        self._epoll.modify(connection.descriptor, self._interest(connection))
        self.reading_connections[connection.descriptor] = connection
        self._resumed.add(connection.descriptor)
        self._resume_talk(connection)

    def _resume_talk(self, connection: LoopConnection) -> None:
        """Run the talk; the pool does so in a worker."""
        self.deliver(connection, connection.conversation.resume(), True)
