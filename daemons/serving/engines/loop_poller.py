"""Poller of the event-driven engines ``loop`` and ``pool``: it receives, has the conversation reply, and sends."""

from __future__ import annotations

import math
import os
import select
import time
from functools import partial
from itertools import islice

from daemons.serving.conclude import BETWEEN_MESSAGES, expect_next
from daemons.serving.conversation.conversation import DONE
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.reply_cache import SHORT
from daemons.serving.conversation.service_binding import UNKNOWN
from daemons.serving.conversation.states import IDLE, OVER, PENDING, WAITING
from daemons.serving.engines.connection_poller import DONTWAIT, EPOLLIN
from daemons.serving.engines.loop_connection import LoopConnection
from daemons.serving.engines.push_poller import PushPoller
from daemons.serving.guards import budget
from daemons.serving.poller import MAX_EVENTS
from daemons.serving.transfer_sizes import PORTION, RECEIVE, SENDFILE

#: Seconds for one turn of the loop while peers send long inputs.
TURN = 0.01


class LoopPoller(PushPoller):
    """Epoll poller that runs conversations."""

    #: Whether to call the service through `LoopConnection.respond_if_known`.  False in a pool: its stall detector would
    #: not notice such a call.
    calls_service_directly = True

    def __init__(self) -> None:
        super().__init__()
        #: Bytes per recv(2): larger if the last turn of the loop received a long input.
        self._size = SHORT

    def wait(self, patience: float) -> bool:
        """As `Poller.wait`.

        This is the hot path, in one function: a method call per message would cost a twentieth of the speed."""
        find, actions, calls_service_directly = self.reading_connections.get, self._actions, self.calls_service_directly
        events = self._events(patience)
        self.woke = now = time.monotonic()
        size, long_input = self._size, False
        server = None
        unread: list[int] = []
        for descriptor, event in events:
            if (connection := find(descriptor)) is None:
                # An earlier action in this batch may have closed the connection.
                if (action := actions.get(descriptor)) is not None:
                    action()
                continue
            try:
                data = connection.socket.recv(size, DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                self._end(connection, Ending.RESET)
                continue
            if event != EPOLLIN and data:
                unread.append(descriptor)
            if (known := connection.replies.get(data)) is not None:
                # A cache hit: the conversation would send the same reply and keep its state.
                received, messages, reply, length = known
                connection.received += received
                connection.messages += messages
            elif not data and connection.existing_conversation is None:
                # The end of the input; without a conversation, no message is incomplete.
                connection.ending = connection.ending or DONE
                self._close_connection(connection)
                continue
            elif not data and connection.ending is not None:
                self._end(connection, None)  # the connection was cut, which is not the end of the peer's input
                continue
            else:
                length = len(data)
                connection.received += length
                if length >= SHORT:
                    long_input = True
                    if length == size:
                        unread.append(descriptor)
                result = (
                    connection.respond_if_known(data)
                    if calls_service_directly and connection.respond_if_known is not None
                    else UNKNOWN
                )
                if type(result) is bytes:
                    connection.messages += 1
                    reply = result
                elif (output := self._receive(connection, data, result)) is not None:
                    reply = output
                else:
                    continue
                length = len(reply)
            # The connection is between two messages again.
            if reply:
                connection.sent += length
                try:
                    sent = connection.socket.send(reply, DONTWAIT)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    connection.sent -= length
                    self._end(connection, Ending.RESET)
                    continue
                if sent != length:
                    self._queue_unsent(connection, memoryview(reply)[sent:])
                    continue
            if connection.server is not server:
                server = connection.server
                deadline = now + server.limits.idle_timeout
            connection.timeout_ending = BETWEEN_MESSAGES
            connection.deadline = deadline
        self._size = self._share(size) if long_input else SHORT
        if unread:
            self._rearm(unread)
        if self.draining and len(events) < MAX_EVENTS:
            self._close_idle({descriptor for descriptor, _ in events})
        if self._ended:
            self._log_and_close_ended()
        return True

    def _share(self, size: int) -> int:
        """Return the bytes per recv(2) of the next turn, after one with long inputs and `size` bytes per recv(2).

        Many peers that send without pause must not delay the others: a longer turn means smaller shares."""
        took = max(time.monotonic() - self.woke, 1e-6)
        return max(SHORT, min(RECEIVE, int(size * TURN / took)))

    def _events(self, patience: float) -> list[tuple[int, int]]:
        if self._paused:
            self._resume()
        if self.draining:
            # Wake up when the next idle connection may be closed.
            now = time.monotonic()
            for connection in self.reading_connections.values():
                if connection.idle:
                    patience = min(patience, max(0.0, connection.close_after - now))
        return self._epoll.poll(None if patience == math.inf else patience, MAX_EVENTS)

    def _receive(self, connection: LoopConnection, data: bytes, result: object) -> bytes | None:
        """Pass `data`, or the `result` of `ServiceBinding.respond_if_known`, to the conversation.

        Return the reply, for the caller to send, if the connection is idle afterwards; else send it and return None."""
        conversation = connection.existing_conversation or connection.conversation
        if result is not UNKNOWN:
            connection.messages += 1
            reply, answered = conversation.encode_result(result), True
        else:
            messages = conversation.messages
            reply = conversation.receive(data)
            answered = conversation.messages != messages
        return self._process_reply(connection, reply, answered)

    def _process_reply(self, connection: LoopConnection, reply: bytes, answered: bool) -> bytes | None:
        """Return `reply` for the caller to send, if the conversation is idle; else send it and return None."""
        conversation = connection.conversation
        if conversation.state or not answered or connection.charged:
            self.deliver(connection, reply, answered)
            return None
        connection.refresh_cache_view(conversation)
        return reply

    def start_conversation(self, connection: LoopConnection) -> None:
        """Begin a conversation: send the greeting, then read."""
        self.start_reading(connection)
        greeting = connection.conversation.open()
        if greeting:
            self._send_later(connection, greeting)
        else:
            self._after_reply(connection, True)

    def deliver(self, connection: LoopConnection, reply: bytes, answered: bool) -> None:
        """Send a reply, as the hot path does, in any state of the conversation."""
        if reply:
            connection.sent += len(reply)
            try:
                sent = connection.socket.send(reply, DONTWAIT)
            except BlockingIOError:
                sent = 0
            except OSError:
                connection.sent -= len(reply)
                self._end(connection, Ending.RESET)
                return
            if sent != len(reply):
                self._queue_unsent(connection, memoryview(reply)[sent:])
                return
        self._after_reply(connection, answered)

    # --- slow path ---------------------------------------------------------------------------------

    def _after_reply(self, connection: LoopConnection, answered: bool) -> None:
        """After a reply was sent completely: end, continue the reply, or wait for input.

        `answered`: whether the reply answered a message."""
        conversation = connection.conversation
        connection.refresh_cache_view(conversation)
        if conversation.state == OVER:
            self._end(connection, conversation.ending)
        elif conversation.overflowed:
            self._end(connection, Ending.STUCK)
        elif conversation.state == WAITING:
            self._wait_for_value(connection, conversation)
        elif conversation.state == PENDING:
            # A spooled socket needs the bytes themselves; sendfile(2) would bypass its buffer.
            files = connection.spool is None
            self._send_later(
                connection, b"" if conversation.file_slice is not None and files else conversation.proceed(files=files)
            )
        else:
            expect_next(connection, conversation.state, connection.server.limits, answered=answered)
            if answered and connection.charged:
                budget.PROCESS.complete(connection)
            self._charge_unfinished(connection, 0 if conversation.state == IDLE else conversation.buffered)
            if conversation.pushed:
                self.push(connection)  # it was pushed while the reply was being made or sent

    def _charge_unfinished(self, connection: LoopConnection, size: int) -> None:
        """Charge `size` bytes of an unfinished message, and stop reading while the memory budget has no room."""
        if (
            (size >= budget.FREE or connection.charged)
            and not connection.server.hold(connection, size)
            and connection.ending is None
        ):
            self.reading_connections.pop(connection.descriptor, None)
            self._paused[connection] = None
            self._actions[connection.descriptor] = partial(self._handle_event_unread, connection)
            self._epoll.modify(connection.descriptor, self._interest_unread(connection))

    def _resume(self) -> None:
        """Read again from as many paused connections as there is room for, and from the one with the oldest message."""
        due = list(islice(self._paused, budget.PROCESS.room // RECEIVE))
        oldest = budget.PROCESS.oldest
        if oldest in self._paused and oldest not in due:
            due.append(oldest)
        for connection in due:
            if connection.may_read():
                del self._paused[connection]
                del self._actions[connection.descriptor]
                self._epoll.modify(connection.descriptor, self._interest(connection))
                self.reading_connections[connection.descriptor] = connection
                if connection.pushed:
                    self.push(connection)

    def _send_later(self, connection: LoopConnection, reply: bytes) -> None:
        """Send `reply` when the socket is writable, after other connections had their turn."""
        connection.sent += len(reply)
        self._queue_unsent(connection, memoryview(reply))

    def _queue_unsent(self, connection: LoopConnection, unsent: memoryview) -> None:
        """Stop reading from the connection until the rest of a reply is sent."""
        connection.sent -= len(unsent)
        if self.reading_connections.pop(connection.descriptor, None) is not None or connection in self._waits:
            self._epoll.modify(connection.descriptor, select.EPOLLOUT)
        expect_next(connection, PENDING, connection.server.limits, answered=True)
        self._actions[connection.descriptor] = partial(self._write, connection, unsent)
        self._charge(connection, unsent)

    def _charge(self, connection: LoopConnection, unsent: memoryview) -> None:
        """Charge a partly unsent reply, which stays in memory until its last byte is sent."""
        held = 0 if connection.existing_conversation is None else connection.existing_conversation.buffered
        connection.server.hold(connection, len(unsent.obj) + held, writing=True)  # type: ignore[arg-type]  # it is of bytes

    def unsent(self, connection: LoopConnection) -> int:
        action = self._actions.get(connection.descriptor)
        if isinstance(action, partial) and len(action.args) == 2 and isinstance(action.args[1], memoryview):
            return len(action.args[1].obj)  # type: ignore[arg-type]  # it is of bytes
        return 0

    def _write(self, connection: LoopConnection, unsent: memoryview) -> None:
        if unsent:
            try:
                sent = connection.socket.send(unsent, DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self._end(connection, Ending.RESET)
                return
            connection.sent += sent
            if sent < len(unsent):
                self._actions[connection.descriptor] = partial(self._write, connection, unsent[sent:])
                self._charge(connection, unsent)
                return
        conversation = connection.conversation
        if conversation.state == PENDING and conversation.file_slice is not None and connection.spool is None:
            connection.socket.setblocking(False)  # sendfile(2) has no MSG_DONTWAIT
            self._actions[connection.descriptor] = partial(self._write_file, connection, conversation.file_slice)
            return
        if conversation.state not in (OVER, PENDING, WAITING):
            del self._actions[connection.descriptor]
            self._epoll.modify(connection.descriptor, self._interest(connection))
            self.reading_connections[connection.descriptor] = connection
        self._after_reply(connection, True)

    def _write_file(self, connection: LoopConnection, file_slice: FileSlice) -> None:
        before = file_slice.left
        try:
            file_slice.take(
                os.sendfile(
                    connection.descriptor, file_slice.descriptor, file_slice.start, min(file_slice.left, SENDFILE)
                )
            )
        except BlockingIOError:
            return
        except EOFError as error:
            connection.conversation.fail(error)
        except OSError:
            file_slice.sendable = False  # the conversation reads the rest; a repeated error shows its cause
        connection.sent += before - file_slice.left
        if connection.conversation.state == OVER or not file_slice.left or not file_slice.sendable:
            self._after_reply(connection, True)
        elif before // PORTION != file_slice.left // PORTION:
            expect_next(connection, PENDING, connection.server.limits, answered=True)
