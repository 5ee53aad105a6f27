"""The pump: the request handler of blocking engines; it transfers bytes between a socket and a conversation."""

from __future__ import annotations

import math
import os
import socket
import socketserver
import time
from typing import TYPE_CHECKING, ClassVar

from daemons.serving import turns
from daemons.serving.conclude import BETWEEN_MESSAGES, LINGER, conclude, expect_next
from daemons.serving.connection import BlockingConnection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import LINGERING, Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.reply_cache import SHORT
from daemons.serving.conversation.service import Service
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING, WAITING
from daemons.serving.conversation.stepping import conversation_class
from daemons.serving.guards import budget
from daemons.serving.pusher import Pusher
from daemons.serving.transfer_sizes import PORTION, RECEIVE
from daemons.serving.waiting import wait_for_room, wait_to_write

if TYPE_CHECKING:
    from daemons.serving.spool import SpooledSocket
    from daemons.serving.stream import StreamServer

DONTWAIT = socket.MSG_DONTWAIT

#: Seconds between two reads for the rest of a message that was interrupted by `BlockingConnection.shut_reading`.
READ_INTERVAL = 0.02


class Pump(socketserver.BaseRequestHandler):
    """Request handler that runs one conversation.  `for_service` makes the subclass for a service.

    Event-driven engines make no instance: they take `service` and `binding` from the class, and their poller moves the
    bytes (`daemons.serving.engines.loop_poller`)."""

    service: ClassVar[Service]
    binding: ClassVar[ServiceBinding]
    conversation_class: ClassVar[type[Conversation]]
    #: Whether this handler handles messages and sets their deadlines itself.
    carries_messages = True

    request: socket.socket
    server: StreamServer

    @staticmethod
    def for_service(service: Service) -> type[Pump]:
        """Return the pump class of a service."""
        name = f"{type(service).__name__}Pump"
        attributes = {
            "service": service,
            "binding": ServiceBinding(service),
            "conversation_class": conversation_class(service),
        }
        return type(name, (Pump,), attributes)

    def setup(self) -> None:
        connection = self.server.connections[self.request]
        assert isinstance(connection, BlockingConnection)
        connection.timed = False
        self.connection = connection
        self.conversation = self.server.make_conversation(self.connection)
        #: Number of messages already added from `conversation.messages` to `connection.messages`.  Messages answered
        #: from the cache count in the connection only.
        self._counted = 0
        #: Whether the last input had many messages.
        self._pipelined = False
        #: Sends pushes to the peer of a talk; None: the service has no talk.
        self._pusher: Pusher | None = None
        if self.binding.talks:
            self._make_pusher()

    def _make_pusher(self) -> Pusher:
        self._pusher = pusher = Pusher(self.request, self.connection, self.conversation, self.server)
        self.connection.on_notify = pusher.notify
        return pusher

    def handle(self) -> None:
        conversation, connection = self.conversation, self.connection
        try:
            self._send(conversation.open())
            while conversation.state != OVER:
                if conversation.state == IDLE:
                    self._exchange()
                    continue
                if conversation.state == WAITING:
                    self._wait()
                    continue
                data = self._receive()
                connection.received += len(data)
                if connection.charged:
                    budget.PROCESS.pin(connection)  # not to be closed while the service processes the message
                self._send(self._receive_long(data))
            if (spool := connection.spool) is not None:
                self._flush(spool)
        except TimeoutError:
            connection.ending = connection.ending or connection.timeout_ending
        except OSError:
            # The peer closed the connection, or the daemon's thread cut it and set the ending.
            connection.ending = connection.ending or Ending.RESET

    def _exchange(self) -> None:
        """Hot path: receive complete messages, and send replies that the socket takes at once.

        Return in any other case."""
        conversation, connection, server = self.conversation, self.connection, self.server
        recv, send, find, clock = self.request.recv, self.request.send, conversation.replies.get, time.monotonic
        receive = conversation.receive
        pusher = self._pusher
        connection.expect(BETWEEN_MESSAGES, server.limits.idle_timeout)
        if connection.charged:
            server.hold(connection, 0)
        size = SHORT
        # `while True`, not a condition: a forked child calls this function only once, and within a single call Python
        # 3.11 specializes the bytecode only at an unconditional backward jump.  Else the loop is a seventh slower.
        while True:
            # Set `waiting`, then read `draining`.  `Server.drain` sets `draining`, then reads `waiting`, so that at
            # least one of the two shuts the reading side.
            connection.waiting = True
            if server.draining and not connection.reading_shut:
                connection.shut_reading()
            connection.timed = True
            messages = connection.messages or 0
            if pusher is not None:
                pusher.release()
            # `timed` stays set during a reply from the cache, which takes too little time to miss the deadline.
            while True:
                data = recv(size)
                if (known := find(data)) is None:
                    break
                received, answered, reply, length = known
                connection.received += received
                connection.messages = messages = messages + answered
                try:
                    # A send that does not block needs no deadline.
                    sent = send(reply, DONTWAIT)
                except (BlockingIOError, TimeoutError):
                    sent = 0
                connection.sent += sent
                if sent != length:
                    self._send(reply, sent)
                    connection.timed = True
                connection.deadline = clock() + server.limits.idle_timeout
                connection.timeout_ending = BETWEEN_MESSAGES
                size = SHORT
            if pusher is not None:
                pusher.acquire()
                self._check_outbox()
            if not data and connection.reading_shut and not messages:
                data = self._receive_after_shutdown(connection.grace_until)
            connection.timed = connection.waiting = False
            connection.received += len(data)
            if reply := receive(data):
                sent = self._send_now(reply)
                if sent != len(reply):
                    self._send_rest(reply, sent)
            if self._count():
                connection.expect(BETWEEN_MESSAGES, server.limits.idle_timeout)
            if conversation.state != IDLE:
                break
            if len(data) < SHORT:
                size = SHORT
            else:
                size = RECEIVE
                receive = self._receive_long
        if conversation.state == PENDING:
            self._send(b"")

    def _wait(self) -> None:
        """Wait until the talk has got a value, or its timeout has passed; then continue it."""
        connection, conversation = self.connection, self.conversation
        if (pusher := self._pusher) is None:  # a reply of a service without a talk comes later
            pusher = self._make_pusher()
        conversation.call_when_ready(pusher.notify)
        self._count()
        expect_next(connection, WAITING, self.server.limits, answered=True)
        self.server.hold_waiting(connection, conversation.buffered)
        connection.timed = True
        alive = pusher.wait(conversation.timeout)
        connection.timed = False
        if not alive:
            raise ConnectionResetError
        self._check_outbox()
        self._send(conversation.resume())

    def _check_outbox(self) -> None:
        """Send the rest of what another thread has begun to send.  Raise `OSError` if the peer did not read it."""
        assert self._pusher is not None
        if self.conversation.overflowed:
            self.connection.ending = self.connection.ending or Ending.STUCK
            raise ConnectionAbortedError
        if unsent := self._pusher.take_unsent():
            self._send_rest(unsent, 0)

    def _receive_long(self, data: bytes) -> bytes:
        """Pass input to the conversation; if the peer pipelines, wait for a turn before."""
        conversation = self.conversation
        before = conversation.messages
        if self._pipelined or len(data) == RECEIVE:
            reply = turns.PROCESS.call(conversation.receive, data)
        else:
            reply = conversation.receive(data)
        self._pipelined = conversation.messages - before >= turns.PIPELINED
        return reply

    def _count(self) -> int:
        """Add the messages answered since the last call to those of the connection, and return their number."""
        answered = self.conversation.messages - self._counted
        self._counted += answered
        self.connection.messages = (self.connection.messages or 0) + answered
        return answered

    def finish(self) -> None:
        conversation, connection = self.conversation, self.connection
        if self._pusher is not None:
            self._pusher.close()
        # After `shut_reading`, the end of the input does not come from the peer.
        drained = conversation.ending is Ending.DONE and connection.reading_shut
        failure = conclude(connection, conversation, Ending.DRAINED if drained else None, counted=self._counted)
        failure = self.server.settle_spool(connection) or failure
        if failure is not None:
            self.server.log_failure(connection, failure)
        self.server.hold(connection, 0)
        if connection.ending in LINGERING:
            self._linger()

    def _receive(self) -> bytes:
        """Receive more of a message, or of a handshake; return ``b""`` at the end of the input.

        The deadline belongs to the message, not to one recv: it is set when the message begins."""
        connection, conversation = self.connection, self.conversation
        answered = self._count() > 0
        expect_next(connection, conversation.state, self.server.limits, answered=answered)
        connection.timed = True
        if answered and connection.charged:
            budget.PROCESS.complete(connection)
        if not self.server.hold(connection, conversation.buffered):
            wait_for_room(connection, self.request)
        if self._pusher is not None:
            self._pusher.release()
        data = self.request.recv(RECEIVE)
        if not data and connection.reading_shut and conversation.state == PARTIAL:
            data = self._receive_after_shutdown()
        if self._pusher is not None:
            self._pusher.acquire()
            self._check_outbox()
        connection.timed = False
        if not data and connection.ending is not None:
            # The daemon's thread cut the connection.  This must not count as the end of the input, which would complete
            # a message in some framings.
            raise ConnectionAbortedError
        return data

    def _receive_after_shutdown(self, until: float = math.inf) -> bytes:
        """Receive more of a message that was interrupted by `shut_reading`, or the first one of a new connection.

        After SHUT_RD Linux still delivers arriving bytes, but recv(2) no longer waits for them: so poll."""
        while self.connection.ending is None and time.monotonic() < until:
            if data := self.request.recv(RECEIVE):
                return data
            if self._peer_has_closed():
                break
            time.sleep(READ_INTERVAL)
        return b""

    def _peer_has_closed(self) -> bool:
        if self.request.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
            return True
        established = 1  # the first byte of tcp_info is the state, tcp(7) and include/net/tcp_states.h
        return self.request.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != established

    def _send(self, reply: bytes, sent: int = 0) -> None:
        """Send `reply` from byte `sent` on, then the parts that follow while the conversation is PENDING.

        Each part has a write_timeout of its own."""
        conversation = self.conversation
        while True:
            if reply:
                sent = sent or self._send_now(reply)
                if sent != len(reply):
                    self._send_rest(reply, sent)
                sent = 0
            if conversation.state != PENDING:
                return
            # A spooled socket needs the bytes themselves; sendfile(2) would bypass its buffer.
            files = self.connection.spool is None
            if files and conversation.file_slice is not None:
                self._send_file(conversation.file_slice)
                if conversation.state != PENDING:
                    return
            reply = conversation.proceed(files=files)

    def _send_now(self, reply: bytes) -> int:
        """Send as much of `reply` as the socket takes without waiting, and return the number of bytes."""
        try:
            sent = self.request.send(reply, DONTWAIT)
        except (BlockingIOError, TimeoutError):
            return 0
        self.connection.sent += sent
        return sent

    def _send_rest(self, reply: bytes, sent: int) -> None:
        """Send `reply` from byte `sent` on, in portions, within one write_timeout for all of them."""
        connection, request, unsent = self.connection, self.request, memoryview(reply)
        spool = connection.spool
        connection.expect(Ending.STUCK, self.server.limits.write_timeout)
        connection.timed = True
        while sent < len(reply):
            # All of `reply` is held until its last byte is sent.
            self.server.hold(connection, len(reply) + self.conversation.buffered, writing=True)
            portion = unsent[sent : sent + PORTION]
            if spool is not None:
                spool.sendall(portion)
                count = len(portion)
            else:
                count = request.send(portion)
            connection.sent += count
            sent += count
        connection.timed = False

    def _send_file(self, file_slice: FileSlice) -> None:
        """Send the rest of `file_slice`, each portion within write_timeout.

        If sendfile(2) fails, the conversation reads the rest instead."""
        connection = self.connection
        if connection.charged:
            self.server.hold(connection, self.conversation.buffered, writing=True)
        while file_slice.left and self.conversation.state != OVER:
            connection.expect(Ending.STUCK, self.server.limits.write_timeout)
            connection.timed = True
            count = min(file_slice.left, PORTION)
            try:
                sent = os.sendfile(self.request.fileno(), file_slice.descriptor, file_slice.start, count)
            except BlockingIOError:  # a socket with a timeout is non-blocking
                wait_to_write(self.request)
                continue
            except OSError:
                file_slice.sendable = False
                return
            try:
                file_slice.take(sent)
            except EOFError as error:
                self.conversation.fail(error)
            connection.timed = False
            connection.sent += sent

    def _flush(self, spool: SpooledSocket) -> None:
        """Send all buffered bytes.  The write_timeout begins again whenever the peer takes some of them."""
        while spool.unsent:
            self.connection.expect(Ending.STUCK, self.server.limits.write_timeout)
            self.connection.timed = True
            spool.flush(wait=True)
        self.connection.timed = False

    def _linger(self) -> None:
        """Shut the sending side down, then read and discard until the peer closes."""
        self.connection.timeout_ending = self.connection.ending or Ending.DONE
        self.connection.deadline = time.monotonic() + LINGER
        self.connection.timed = True
        try:
            self.request.shutdown(socket.SHUT_WR)
            # One buffer for all reads: a new buffer for each would let malloc's arena of this thread grow by megabytes.
            discarded = bytearray(4 * RECEIVE)
            while self.request.recv_into(discarded):
                pass
        except OSError:
            pass
