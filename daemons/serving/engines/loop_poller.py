"""Poller of the event-driven engines ``loop`` and ``pool``: it receives, has the conversation reply, and sends."""

from __future__ import annotations

import math
import os
import select
import time
from functools import partial
from itertools import islice

from daemons.serving.conclude import BETWEEN_MESSAGES, expect_next
from daemons.serving.conversation.conversation import DONE, IDLE, OVER, PENDING
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.reply_cache import SHORT
from daemons.serving.conversation.service_binding import UNKNOWN
from daemons.serving.engines.connection_poller import DONTWAIT, EPOLLIN, ConnectionPoller
from daemons.serving.engines.flow import LoopConnection
from daemons.serving.guards import budget
from daemons.serving.poller import BATCH
from daemons.serving.pump import PORTION, RECEIVE

#: Bytes of a file sent before other connections are handled.
SENDFILE = 1024 * 1024


class LoopPoller(ConnectionPoller):
    """Epoll poller that runs conversations."""

    #: Whether to call the service through `LoopConnection.again`.  False in a pool: its stall detector would not notice
    #: such a call.
    asks_again = True

    def __init__(self) -> None:
        super().__init__()
        #: Bytes per recv(2): larger if the last turn of the loop received a long input.
        self._size = SHORT

    def wait(self, patience: float) -> bool:
        """As `Poller.wait`.

        This is the hot path, in one function: a method call per message would cost a twentieth of the speed."""
        find, actions, asks_again = self.flows.get, self._actions, self.asks_again
        events = self._events(patience)
        self.woke = now = time.monotonic()
        size, much = self._size, False
        server = None
        unread: list[int] = []
        for descriptor, event in events:
            if (flow := find(descriptor)) is None:
                # An earlier action in this batch may have closed the connection.
                if (action := actions.get(descriptor)) is not None:
                    action()
                continue
            try:
                data = flow.socket.recv(size, DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                self._end(flow, Ending.RESET)
                continue
            if event != EPOLLIN and data:
                unread.append(descriptor)
            if (known := flow.replies.get(data)) is not None:
                # A cache hit: the conversation would send the same reply and keep its state.
                came, messages, reply, octets = known
                flow.received += came
                flow.messages += messages
            elif not data and flow.made is None:
                # The end of the input; without a conversation, no message is incomplete.
                flow.ending = flow.ending or DONE
                self._close_flow(flow)
                continue
            elif not data and flow.ending is not None:
                self._end(flow, None)  # the connection was cut, which is not the end of the peer's input
                continue
            else:
                octets = len(data)
                flow.received += octets
                if octets >= SHORT:
                    much = True
                    if octets == size:
                        unread.append(descriptor)
                result = flow.again(data) if asks_again and flow.again is not None else UNKNOWN
                if type(result) is bytes:
                    flow.messages += 1
                    reply = result
                elif (output := self._receive(flow, data, result)) is not None:
                    reply = output
                else:
                    continue
                octets = len(reply)
            # The connection is between two messages again.
            if reply:
                flow.sent += octets
                try:
                    sent = flow.socket.send(reply, DONTWAIT)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    flow.sent -= octets
                    self._end(flow, Ending.RESET)
                    continue
                if sent != octets:
                    self._hold(flow, memoryview(reply)[sent:])
                    continue
            if flow.server is not server:
                server = flow.server
                deadline = now + server.limits.idle_timeout
            flow.overdue = BETWEEN_MESSAGES
            flow.deadline = deadline
        self._size = RECEIVE if much else SHORT
        if unread:
            self._rearm(unread)
        if self.draining and len(events) < BATCH:
            self._close_idle({descriptor for descriptor, _ in events})
        if self._ended:
            self._account()
        return True

    def _events(self, patience: float) -> list[tuple[int, int]]:
        if self._paused:
            self._resume()
        if self.draining:
            # Wake up when the next idle connection may be closed.
            now = time.monotonic()
            for flow in self.flows.values():
                if flow.idle:
                    patience = min(patience, max(0.0, flow.close_after - now))
        return self._epoll.poll(None if patience == math.inf else patience, BATCH)

    def _receive(self, flow: LoopConnection, data: bytes, result: object) -> bytes | None:
        """Pass `data`, or the `result` of `ServiceBinding.again`, to the conversation.

        Return the reply, for the caller to send, if the connection is idle afterwards; else send it and return None."""
        conversation = flow.made or flow.conversation
        if result is not UNKNOWN:
            flow.messages += 1
            reply, answered = conversation.say(result), True
        else:
            messages = conversation.messages
            reply = conversation.receive(data)
            answered = conversation.messages != messages
        return self._process_reply(flow, reply, answered)

    def _process_reply(self, flow: LoopConnection, reply: bytes, answered: bool) -> bytes | None:
        """Handle the reply of the conversation, and return the result of `_receive`."""
        conversation = flow.conversation
        if conversation.state or not answered or flow.charged:
            self.deliver(flow, reply, answered)
            return None
        flow.refresh_cache_view(conversation)
        return reply

    def take(self, flow: LoopConnection) -> None:
        """Begin a conversation: send the greeting, then read."""
        self.read(flow)
        greeting = flow.conversation.open()
        if greeting:
            self._send_later(flow, greeting)
        else:
            self._go_on(flow, True)

    def deliver(self, flow: LoopConnection, reply: bytes, answered: bool) -> None:
        """Send a reply, as the hot path does, in any state of the conversation."""
        if reply:
            flow.sent += len(reply)
            try:
                sent = flow.socket.send(reply, DONTWAIT)
            except BlockingIOError:
                sent = 0
            except OSError:
                flow.sent -= len(reply)
                self._end(flow, Ending.RESET)
                return
            if sent != len(reply):
                self._hold(flow, memoryview(reply)[sent:])
                return
        self._go_on(flow, answered)

    # --- slow path ---------------------------------------------------------------------------------

    def _go_on(self, flow: LoopConnection, answered: bool) -> None:
        """Take the next step after a reply was sent completely.  `answered`: whether it answered a message."""
        conversation = flow.conversation
        flow.refresh_cache_view(conversation)
        if conversation.state == OVER:
            self._end(flow, conversation.ending)
        elif conversation.state == PENDING:
            # A spooled socket needs the bytes themselves; sendfile(2) would bypass its buffer.
            files = flow.spool is None
            self._send_later(
                flow, b"" if conversation.span is not None and files else conversation.proceed(files=files)
            )
        else:
            expect_next(flow, conversation.state, flow.server.limits, answered=answered)
            if answered and flow.charged:
                budget.PROCESS.complete(flow)
            self._keep(flow, 0 if conversation.state == IDLE else conversation.buffered)

    def _keep(self, flow: LoopConnection, size: int) -> None:
        """Charge `size` bytes of an unfinished message, and stop reading while the memory budget has no room."""
        if (size >= budget.FREE or flow.charged) and not flow.server.hold(flow, size) and flow.ending is None:
            self.flows.pop(flow.descriptor, None)
            self._paused[flow] = None
            self._actions[flow.descriptor] = partial(self._look_at_paused, flow)
            self._epoll.modify(flow.descriptor, self._interest(flow) & select.EPOLLOUT)

    def _look_at_paused(self, flow: LoopConnection) -> None:
        """Handle an event of a paused connection: it was closed or cut, or buffered replies can be sent."""
        try:
            if (spool := flow.spool) is not None and spool.unsent and flow.ending is None:
                spool.flush()
                self._epoll.modify(flow.descriptor, self._interest(flow) & select.EPOLLOUT)
                return
        except OSError:
            pass
        self._end(flow, Ending.RESET)

    def _resume(self) -> None:
        """Read again from as many paused connections as there is room for, and from the one with the oldest message."""
        due = list(islice(self._paused, budget.PROCESS.room // RECEIVE))
        oldest = budget.PROCESS.oldest
        if oldest in self._paused and oldest not in due:
            due.append(oldest)
        for flow in due:
            if flow.may_read():
                del self._paused[flow]
                del self._actions[flow.descriptor]
                self._epoll.modify(flow.descriptor, self._interest(flow))
                self.flows[flow.descriptor] = flow

    def _send_later(self, flow: LoopConnection, reply: bytes) -> None:
        """Send `reply` when the socket is writable, after other connections had their turn."""
        flow.sent += len(reply)
        self._hold(flow, memoryview(reply))

    def _hold(self, flow: LoopConnection, unsent: memoryview) -> None:
        """Stop reading from the connection until the rest of a reply is sent."""
        flow.sent -= len(unsent)
        if self.flows.pop(flow.descriptor, None) is not None:
            self._epoll.modify(flow.descriptor, select.EPOLLOUT)
        expect_next(flow, PENDING, flow.server.limits, answered=True)
        self._actions[flow.descriptor] = partial(self._write, flow, unsent)
        self._charge(flow, unsent)

    def _charge(self, flow: LoopConnection, unsent: memoryview) -> None:
        """Charge a partly unsent reply, which stays in memory until its last byte is sent."""
        held = 0 if flow.made is None else flow.made.buffered
        flow.server.hold(flow, len(unsent.obj) + held, writing=True)  # type: ignore[arg-type]  # it is of bytes

    def _write(self, flow: LoopConnection, unsent: memoryview) -> None:
        if unsent:
            try:
                sent = flow.socket.send(unsent, DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self._end(flow, Ending.RESET)
                return
            flow.sent += sent
            if sent < len(unsent):
                self._actions[flow.descriptor] = partial(self._write, flow, unsent[sent:])
                self._charge(flow, unsent)
                return
        if flow.conversation.state == PENDING and flow.conversation.span is not None and flow.spool is None:
            flow.socket.setblocking(False)  # sendfile(2) has no MSG_DONTWAIT
            self._actions[flow.descriptor] = partial(self._write_file, flow, flow.conversation.span)
            return
        if flow.conversation.state not in (OVER, PENDING):
            del self._actions[flow.descriptor]
            self._epoll.modify(flow.descriptor, self._interest(flow))
            self.flows[flow.descriptor] = flow
        self._go_on(flow, True)

    def _write_file(self, flow: LoopConnection, span: FileSlice) -> None:
        before = span.left
        try:
            span.take(os.sendfile(flow.descriptor, span.descriptor, span.start, min(span.left, SENDFILE)))
        except BlockingIOError:
            return
        except EOFError as error:
            flow.conversation.fail(error)
        except OSError:
            span.sendable = False  # the conversation reads the rest; a repeated error shows its cause
        flow.sent += before - span.left
        if flow.conversation.state == OVER or not span.left or not span.sendable:
            self._go_on(flow, True)
        elif before // PORTION != span.left // PORTION:
            expect_next(flow, PENDING, flow.server.limits, answered=True)
