"""The pump: the one request handler that carries bytes between a socket and a conversation, under
the engines that block."""

from __future__ import annotations

import math
import os
import socket
import socketserver
import time
from typing import TYPE_CHECKING, ClassVar

from daemons.serving.conclude import BETWEEN_MESSAGES, conclude, expect_next
from daemons.serving.connection import BlockingConnection
from daemons.serving.conversation.conversation import IDLE, OVER, PARTIAL, PENDING
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.file_slice import FileSlice
from daemons.serving.conversation.reply_cache import SHORT
from daemons.serving.conversation.service import Service
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.guards import budget
from daemons.serving.spool import SpooledSocket
from daemons.serving.waiting import wait_for_room, wait_to_write

if TYPE_CHECKING:
    from daemons.serving.stream import StreamServer

DONTWAIT = socket.MSG_DONTWAIT

#: Octets of a reply that comes in pieces for which a peer has write_timeout.
PORTION = 64 * 1024

#: Octets per recv(2).  Larger reads are not faster for messages, and cost memory per connection.
RECEIVE = 16 * 1024

#: Seconds to wait for the peer to close after our last words.  Closing while it still sends would reset
#: the connection, and the kernel would throw those words away (RFC 9112, section 9.6).
LINGER = 2.0

#: Endings of our own making, after which the peer may still be sending.
OURS = frozenset((Ending.FINISHED, Ending.OVERSIZE, Ending.MALFORMED, Ending.HANDSHAKE, Ending.FAILED))

#: Seconds between two looks for the rest of a message that was cut in two by `BlockingConnection.mute`.
NAP = 0.02


class Pump(socketserver.BaseRequestHandler):
    """Carries one conversation.  Made for a service by `carrying`; a server's RequestHandlerClass."""

    service: ClassVar[Service]
    binding: ClassVar[ServiceBinding]
    #: So the server knows that this handler keeps the deadlines of messages itself.
    carries_messages = True

    request: socket.socket
    server: StreamServer

    @staticmethod
    def carrying(service: Service) -> type[Pump]:
        """The pump of one service."""
        name = f"{type(service).__name__}Pump"
        return type(name, (Pump,), {"service": service, "binding": ServiceBinding(service)})

    def setup(self) -> None:
        connection = self.server.connections[self.request]
        assert isinstance(connection, BlockingConnection)
        connection.timed = False
        self.connection = connection
        self.conversation = self.server.conversation(self.connection)
        #: How many of its messages `connection` knows of.  Those answered from what came before are none of its own.
        self._counted = 0

    def handle(self) -> None:
        conversation, connection = self.conversation, self.connection
        try:
            self._send(conversation.open())
            while conversation.state != OVER:
                if conversation.state == IDLE:
                    self._exchange()
                    continue
                data = self._receive()
                connection.received += len(data)
                if connection.charged:
                    budget.PROCESS.pin(connection)  # while the service may be at work on it
                self._send(conversation.receive(data))
            if isinstance(self.request, SpooledSocket):
                self._flush(self.request)
        except TimeoutError:
            connection.ending = connection.ending or connection.overdue
        except OSError:
            # The peer has gone, or the daemon's thread has cut it and left the word for that.
            connection.ending = connection.ending or Ending.RESET

    def _exchange(self) -> None:
        """Messages that come whole, and replies that the socket takes at once: the hot path, in one piece.
        Returns when something else comes."""
        conversation, connection, server = self.conversation, self.connection, self.server
        recv, send, find, clock = self.request.recv, self.request.send, conversation.replies.get, time.monotonic
        connection.expect(BETWEEN_MESSAGES, server.limits.idle_timeout)
        if connection.charged:
            server.hold(connection, 0)
        size = SHORT
        # `while True`, because Python 3.11 comes to specialize what is called once, as this is in a process of its own,
        # by a jump without a condition alone: that makes a seventh of the speed.
        while True:
            # In this order: `StreamServer.drain` sets `draining`, then looks who is waiting.
            connection.waiting = True
            if server.draining and not connection.muted:
                connection.mute()
            connection.timed = True
            messages = connection.messages or 0
            # What has come before takes so little time that the peer is waited for all the while.
            while True:
                data = recv(size)
                if (known := find(data)) is None:
                    break
                came, answered, reply, octets = known
                connection.received += came
                connection.messages = messages = messages + answered
                try:
                    # What the socket's buffer takes without waiting needs no deadline.
                    sent = send(reply, DONTWAIT)
                except (BlockingIOError, TimeoutError):
                    sent = 0
                connection.sent += sent
                if sent != octets:
                    self._send(reply, sent)
                    connection.timed = True
                connection.deadline = clock() + server.limits.idle_timeout
                connection.overdue = BETWEEN_MESSAGES
                size = SHORT
            if not data and connection.muted and not messages:
                data = self._receive_muted(connection.newcomer_until)
            connection.timed = connection.waiting = False
            connection.received += len(data)
            if reply := conversation.receive(data):
                sent = self._send_now(reply)
                if sent != len(reply):
                    self._send_rest(reply, sent)
            if self._count():
                connection.expect(BETWEEN_MESSAGES, server.limits.idle_timeout)
            if conversation.state != IDLE:
                break
            size = SHORT if len(data) < SHORT else RECEIVE
        if conversation.state == PENDING:
            self._send(b"")

    def _count(self) -> int:
        """Count the messages that the conversation has answered since it was last asked; returns how many."""
        answered = self.conversation.messages - self._counted
        self._counted += answered
        self.connection.messages = (self.connection.messages or 0) + answered
        return answered

    def finish(self) -> None:
        conversation, connection, request = self.conversation, self.connection, self.request
        # The end of the input after `mute` is ours, not the peer's.
        drained = conversation.ending is Ending.DONE and connection.muted
        failure = conclude(connection, conversation, Ending.DRAINED if drained else None, counted=self._counted)
        if isinstance(request, SpooledSocket):
            failure = self.server.settle_spool(connection, request) or failure
        if failure is not None:
            self.server.log_failure(connection, failure)
        self.server.hold(connection, 0)
        if connection.ending in OURS:
            self._linger()

    def _receive(self) -> bytes:
        """More of a message, or of what comes before the first; ``b""`` at the end of the input.  The
        deadline belongs to the message, not to a recv: it is set when the message begins."""
        connection, conversation = self.connection, self.conversation
        answered = self._count() > 0
        expect_next(connection, conversation.state, self.server.limits, answered=answered)
        connection.timed = True
        if answered and connection.charged:
            budget.PROCESS.complete(connection)
        if not self.server.hold(connection, conversation.buffered):
            wait_for_room(connection, self.request)
        data = self.request.recv(RECEIVE)
        if not data and connection.muted and conversation.state == PARTIAL:
            data = self._receive_muted()
        connection.timed = False
        if not data and connection.ending is not None:
            # The daemon's thread has cut the connection.  This is no end of the input, which completes some messages.
            raise ConnectionAbortedError
        return data

    def _receive_muted(self, until: float = math.inf) -> bytes:
        """More of a message whose first part arrived just as we were muted, or a newcomer's first.  Linux goes on
        to deliver what comes after SHUT_RD, but no longer waits for it: so look again and again."""
        while self.connection.ending is None and time.monotonic() < until:
            if data := self.request.recv(RECEIVE):
                return data
            if self._peer_has_closed():
                break
            time.sleep(NAP)
        return b""

    def _peer_has_closed(self) -> bool:
        if self.request.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
            return True
        established = 1  # the first octet of tcp_info is the state, tcp(7) and include/net/tcp_states.h
        return self.request.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != established

    def _send(self, reply: bytes, sent: int = 0) -> None:
        """Send `reply`, of which so many bytes are sent already, and what else waits to be said, within write_timeout
        each."""
        conversation = self.conversation
        while True:
            if reply:
                sent = sent or self._send_now(reply)
                if sent != len(reply):
                    self._send_rest(reply, sent)
                sent = 0
            # One that keeps what the peer has yet to read has to be given it.
            files = not isinstance(self.request, SpooledSocket)
            if files and conversation.state == PENDING and conversation.span is not None:
                self._send_file(conversation.span)
            if conversation.state != PENDING:
                return
            reply = conversation.proceed(files=files)

    def _send_now(self, reply: bytes) -> int:
        """Send as much of `reply` as the socket takes without waiting; return how many bytes."""
        try:
            sent = self.request.send(reply, DONTWAIT)
        except (BlockingIOError, TimeoutError):
            return 0
        self.connection.sent += sent
        return sent

    def _send_rest(self, reply: bytes, sent: int) -> None:
        """Send `reply` from the byte `sent` on, a portion at a time, so that progress is seen."""
        connection, request, unsent = self.connection, self.request, memoryview(reply)
        connection.expect(Ending.STUCK, self.server.limits.write_timeout)
        connection.timed = True
        while sent < len(reply):
            # All of `reply` is held until its last byte is sent.
            self.server.hold(connection, len(reply) + self.conversation.buffered, writing=True)
            portion = unsent[sent : sent + PORTION]
            if isinstance(request, SpooledSocket):
                request.sendall(portion)
                count = len(portion)
            else:
                count = request.send(portion)
            connection.sent += count
            sent += count
        connection.timed = False

    def _send_file(self, span: FileSlice) -> None:
        """Send the rest of `span`, within write_timeout for each portion.  Where sendfile(2) fails, the rest is left to
        be read."""
        connection = self.connection
        if connection.charged:
            self.server.hold(connection, self.conversation.buffered, writing=True)
        while span.left and self.conversation.state != OVER:
            connection.expect(Ending.STUCK, self.server.limits.write_timeout)
            connection.timed = True
            count = min(span.left, PORTION)
            try:
                sent = os.sendfile(self.request.fileno(), span.descriptor, span.start, count)
            except BlockingIOError:  # it has a timeout
                wait_to_write(self.request)
                continue
            except OSError:
                span.sendable = False
                return
            try:
                span.take(sent)
            except EOFError as error:
                self.conversation.fail(error)
            connection.timed = False
            connection.sent += sent

    def _flush(self, request: SpooledSocket) -> None:
        """Send on all that the peer has yet to read, within write_timeout for each part that it takes."""
        while request.unsent:
            self.connection.expect(Ending.STUCK, self.server.limits.write_timeout)
            self.connection.timed = True
            request.flush(wait=True)
        self.connection.timed = False

    def _linger(self) -> None:
        """Close our half, then read and forget until the peer closes its own."""
        self.connection.overdue = self.connection.ending or Ending.DONE
        self.connection.deadline = time.monotonic() + LINGER
        self.connection.timed = True
        try:
            self.request.shutdown(socket.SHUT_WR)
            # Into one buffer: of one for each read, malloc comes to keep megabytes in a thread.
            forgotten = bytearray(4 * RECEIVE)
            while self.request.recv_into(forgotten):
                pass
        except OSError:
            pass
