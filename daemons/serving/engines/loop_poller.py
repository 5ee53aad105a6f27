"""Conversations by readiness: the poller of ``loop`` and, with workers behind it, of ``pool``."""

from __future__ import annotations

import logging
import math
import os
import select
import socket
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from daemons.serving.conclude import BETWEEN_MESSAGES, conclude, expect_next
from daemons.serving.conversation.conversation import DONE, IDLE, OVER, PENDING
from daemons.serving.conversation.endings import Ending, Refusal
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.reply_cache import SHORT
from daemons.serving.conversation.service_binding import UNKNOWN
from daemons.serving.engines.flow import LoopConnection
from daemons.serving.guards import budget
from daemons.serving.poller import BATCH, Poller
from daemons.serving.pump import LINGER, OURS, PORTION, RECEIVE
from daemons.serving.spool import SpooledSocket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daemons.serving.interfaces import ByReadiness

log = logging.getLogger(__name__)

DONTWAIT = socket.MSG_DONTWAIT
EPOLLIN = select.EPOLLIN

#: What a flow that is read from waits for.  Edge-triggered, epoll(7): the kernel tells of what has come and does not
#: look again, at each wait, whether we have read it, which costs two per cent with many peers.  So who has not
#: read all must ask anew.  A read that brings less than it asked for has read all, unless something lies behind that:
#: the peer's end, or urgent data, at which recv(2) stops.
READING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET

#: Octets of a file that are sent before the others have a turn.
SENDFILE = 1024 * 1024

#: Endings of who does not hear any more what we have kept for it.
UNHEARD = frozenset((Ending.RESET, Ending.STUCK, Ending.IDLE, Ending.SLOW, Ending.STOPPED))


class LoopPoller(Poller):
    """Epoll with the conversations in it.

    `flows` are those being read from.  One that is in another phase (writing what the socket did not
    take, or lingering after its last words) has an action instead, as a listener has.
    """

    #: Whether a service may be asked by `LoopConnection.again`, where nobody sees that it is at it.
    asks_again = True
    #: What a flow over TCP that is read from waits for.
    reading = READING

    def __init__(self) -> None:
        super().__init__()
        self.register = self._epoll.register
        self.flows: dict[int, LoopConnection] = {}
        #: Flows that have ended in this turn, and have yet to be accounted for, by their server.
        self._ended: defaultdict[ByReadiness, list[LoopConnection]] = defaultdict(list)
        #: Flows with an unfinished message that wait for room in the budget of the process, unread.
        self._paused: dict[LoopConnection, None] = {}
        self.draining = False
        #: Octets per recv(2): more where the last turn of the loop had use for more.
        self._size = SHORT
        #: Into which is read what nobody wants.
        self._forgotten = bytearray(4 * RECEIVE)

    def wait(self, patience: float) -> bool:
        """As `Poller.wait`.  The hot path of the whole suite, so it stands here in one piece: a method
        call per message would cost a twentieth of the speed."""
        find, actions, asks_again = self.flows.get, self._actions, self.asks_again
        events = self._events(patience)
        self.woke = now = time.monotonic()
        size, much = self._size, False
        server = None
        unread: list[int] = []
        for descriptor, event in events:
            if (flow := find(descriptor)) is None:
                # An action may have ended a conversation whose event is in the same batch.
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
                # What the conversation would say, and be no other for it.  This is shorter than what was asked for.
                came, messages, reply, octets = known
                flow.received += came
                flow.messages += messages
            elif not data and (flow.made is None or flow.ending is not None):
                # Nothing is held, so that there is nothing to finish; or it was cut, which is no end of the input.
                if flow.made is None:
                    flow.ending = flow.ending or DONE
                    self._close_flow(flow)
                else:
                    self._end(flow, None)
                continue
            else:
                octets = len(data)
                flow.received += octets
                if octets >= SHORT:
                    much = True
                    if octets == size:
                        unread.append(descriptor)
                said = flow.again(data) if asks_again and flow.again is not None else UNKNOWN
                if type(said) is bytes:
                    flow.messages += 1
                    reply = said
                elif (heard := self._hear(flow, data, said)) is not None:
                    reply = heard
                else:
                    continue
                octets = len(reply)
            # Now it is between two messages again.
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
            self._read_on(unread)
        if self.draining and len(events) < BATCH:
            self._dismiss({descriptor for descriptor, _ in events})
        if self._ended:
            self._account()
        return True

    def _read_on(self, descriptors: Iterable[int]) -> None:
        """Have epoll look anew whether there is more to be read from these, as far as they are still read from."""
        for descriptor in descriptors:
            if (flow := self.flows.get(descriptor)) is not None:
                self._epoll.modify(descriptor, self._interest(flow))

    def look_anew(self) -> None:
        self._read_on(list(self.flows))

    def _events(self, patience: float) -> list[tuple[int, int]]:
        if self._paused:
            self._resume()
        if self.draining:
            # Until the first of the newcomers is none any more; not at all if somebody may go at once.
            now = time.monotonic()
            for flow in self.flows.values():
                if flow.idle:
                    patience = min(patience, max(0.0, flow.stays_until - now))
        return self._epoll.poll(None if patience == math.inf else patience, BATCH)

    def _hear(self, flow: LoopConnection, data: bytes, said: object) -> bytes | None:
        """Pass `data` to the conversation, or handle `said`, the result of `ServiceBinding.again`.  Return the bytes to
        send if the conversation is between two messages then; None if they have been delivered."""
        conversation = flow.made or flow.conversation
        if said is not UNKNOWN:
            flow.messages += 1
            reply, answered = conversation.say(said), True
        else:
            messages = conversation.messages
            reply = conversation.receive(data)
            answered = conversation.messages != messages
        return self._heard(flow, reply, answered)

    def _heard(self, flow: LoopConnection, reply: bytes, answered: bool) -> bytes | None:
        """The conversation has made `reply`: what `_hear` returns."""
        conversation = flow.conversation
        if conversation.state or not answered or flow.charged:
            self.deliver(flow, reply, answered)
            return None
        flow.look_up(conversation)
        return reply

    def take(self, flow: LoopConnection) -> None:
        """Begin with a new conversation: greet, then read."""
        self.read(flow)
        greeting = flow.conversation.open()
        if greeting:
            self._say(flow, greeting)
        else:
            self._go_on(flow, True)

    def read(self, flow: LoopConnection) -> None:
        """Begin to read from this peer."""
        self.register(flow.descriptor, self._interest(flow))
        self.flows[flow.descriptor] = flow

    def _interest(self, flow: LoopConnection) -> int:
        """What to wait for while a peer is being read from: while answers are kept for it, also to send them on."""
        request = flow.socket
        if not isinstance(request, SpooledSocket):
            # Of a Unix peer that passes descriptors, recv(2) stops behind each message that has some.
            return EPOLLIN if request.family == socket.AF_UNIX else self.reading
        request.changed = partial(self._change, flow)
        return EPOLLIN | select.EPOLLOUT if request.unsent else EPOLLIN

    def _change(self, flow: LoopConnection) -> None:
        # One that is not read from, or that a worker has, will be looked at when it is.
        if flow.descriptor in self.flows:
            self._epoll.modify(flow.descriptor, self._interest(flow))

    def deliver(self, flow: LoopConnection, reply: bytes, answered: bool) -> None:
        """What the hot path does with a reply, but for whom it may be that is not between two messages now."""
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

    # --- what is rare ------------------------------------------------------------------------------

    def _go_on(self, flow: LoopConnection, answered: bool) -> None:
        """All that was to be said has been sent: what now?  `answered`: a message has been, since last."""
        conversation = flow.conversation
        flow.look_up(conversation)
        if conversation.state == OVER:
            self._end(flow, conversation.ending)
        elif conversation.state == PENDING:
            # One that keeps what the peer has yet to read has to be given it.
            files = not isinstance(flow.socket, SpooledSocket)
            self._say(flow, b"" if conversation.span is not None and files else conversation.proceed(files=files))
        else:
            expect_next(flow, conversation.state, flow.server.limits, answered=answered)
            if answered and flow.charged:
                budget.PROCESS.complete(flow)
            self._keep(flow, 0 if conversation.state == IDLE else conversation.buffered)

    def _keep(self, flow: LoopConnection, size: int) -> None:
        """Charge the part of a message that is held, and read no more of it while the budget of the process has no
        room."""
        if (size >= budget.FREE or flow.charged) and not flow.server.hold(flow, size) and flow.ending is None:
            self.flows.pop(flow.descriptor, None)
            self._paused[flow] = None
            self._actions[flow.descriptor] = partial(self._look_at_paused, flow)
            self._epoll.modify(flow.descriptor, self._interest(flow) & select.EPOLLOUT)

    def _look_at_paused(self, flow: LoopConnection) -> None:
        """A paused peer has gone, the connection was cut, or what is kept for the peer can be sent on."""
        try:
            if isinstance(flow.socket, SpooledSocket) and flow.socket.unsent and flow.ending is None:
                flow.socket.flush()
                self._epoll.modify(flow.descriptor, self._interest(flow) & select.EPOLLOUT)
                return
        except OSError:
            pass
        self._end(flow, Ending.RESET)

    def _resume(self) -> None:
        """Read on from paused flows, as many as there is room for, and from the one with the oldest message."""
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

    def _say(self, flow: LoopConnection, reply: bytes) -> None:
        """Send `reply` when the socket takes it, which may be at once; not before the others had a turn."""
        flow.sent += len(reply)
        self._hold(flow, memoryview(reply))

    def _hold(self, flow: LoopConnection, unsent: memoryview) -> None:
        """Read no more from this peer until it has taken the rest of a reply."""
        flow.sent -= len(unsent)
        if self.flows.pop(flow.descriptor, None) is not None:
            self._epoll.modify(flow.descriptor, select.EPOLLOUT)
        expect_next(flow, PENDING, flow.server.limits, answered=True)
        self._actions[flow.descriptor] = partial(self._write, flow, unsent)
        self._charge(flow, unsent)

    def _charge(self, flow: LoopConnection, unsent: memoryview) -> None:
        """Charge a reply that the peer has not taken, which is held until its last byte is sent."""
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
        if (
            flow.conversation.state == PENDING
            and flow.conversation.span is not None
            and not isinstance(flow.socket, SpooledSocket)
        ):
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
            span.sendable = False  # the rest is read, and the error shows whose it is
        flow.sent += before - span.left
        if flow.conversation.state == OVER or not span.left or not span.sendable:
            self._go_on(flow, True)
        elif before // PORTION != span.left // PORTION:
            expect_next(flow, PENDING, flow.server.limits, answered=True)

    def _dismiss(self, ready: set[int]) -> None:
        """The daemon is stopping: who is between two messages, and had nothing for us, may go."""
        now = time.monotonic()
        for descriptor, flow in list(self.flows.items()):
            if flow.idle and descriptor not in ready and flow.stays_until <= now:
                # To an idle conversation this says nothing, except over TLS: goodbye.
                if flow.made is not None and (goodbye := flow.made.receive(b"")):
                    with suppress(OSError):
                        flow.socket.send(goodbye, DONTWAIT)
                self._end(flow, Ending.DRAINED)

    def _end(self, flow: LoopConnection, ending: Ending | None) -> None:
        """The conversation is over; if the last word was ours, see that it arrives."""
        request = flow.socket
        failure: BaseException | None = None
        if isinstance(request, SpooledSocket):
            if self._flush(flow, request, ending):
                return
            failure = flow.server.settle_spool(flow, request)
        if (conversation := flow.made) is not None:
            failure = conclude(flow, conversation, ending) or failure
            conversation.messages = 0
        else:
            flow.ending = flow.ending or ending
        if failure is not None:
            flow.server.log_failure(flow, failure)
        if flow.charged:
            flow.server.hold(flow, 0)
            self._paused.pop(flow, None)
            flow.made = None  # the flow lives on until it is accounted for, what it held need not
        if flow.ending in OURS:
            self._linger(flow)
        else:
            self._close_flow(flow)

    def give_way(self, flow: LoopConnection) -> None:
        """Close a flow for lack of room in the budget of the process."""
        flow.refuse(Refusal.HELD)
        self._end(flow, Ending.REFUSED)

    def _flush(self, flow: LoopConnection, request: SpooledSocket, ending: Ending | None) -> bool:
        """Before the end, send on what is kept for the peer.  Returns whether that takes a while; then it ends."""
        try:
            if flow.ending is not None or ending in UNHEARD or not request.flush():
                return False
        except OSError:
            flow.ending = Ending.RESET
            return False
        if self.flows.pop(flow.descriptor, None) is not None:
            self._epoll.modify(flow.descriptor, select.EPOLLOUT)
        # The kernel asks for more when it has room for a good part of its buffer, so this is no reward for one octet.
        expect_next(flow, PENDING, flow.server.limits, answered=True)
        self._actions[flow.descriptor] = partial(self._end, flow, ending)
        return True

    def _linger(self, flow: LoopConnection) -> None:
        """Close our half, then read and forget until the peer closes its own."""
        try:
            flow.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close_flow(flow)
            return
        self.flows.pop(flow.descriptor, None)
        self._epoll.modify(flow.descriptor, EPOLLIN)
        flow.expect(flow.ending or Ending.DONE, LINGER)
        self._actions[flow.descriptor] = partial(self._discard, flow)

    def _discard(self, flow: LoopConnection) -> None:
        try:
            if flow.socket.recv_into(self._forgotten, 0, DONTWAIT):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close_flow(flow)

    def _close_flow(self, flow: LoopConnection) -> None:
        # Closing a descriptor takes it out of epoll.
        if self.flows.pop(flow.descriptor, None) is None:
            self._actions.pop(flow.descriptor, None)
        server = flow.server
        if server.end(flow):
            self._ended[server].append(flow)

    def _account(self) -> None:
        ended, self._ended = self._ended, defaultdict(list)
        for server, flows in ended.items():
            server.account(flows)
