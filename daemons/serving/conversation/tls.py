"""TLS without I/O: an encrypted conversation, as a wrapper of an unencrypted one.

The contract is that of `daemons.serving.conversation.conversation`, so engines treat both alike: *for any bytes,
`receive` returns bytes and may set an ending; it never raises.*  The state is SHAKING until the handshake is complete,
then that of the inner conversation.

No sockets: OpenSSL reads from and writes to an `ssl.MemoryBIO`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING, SHAKING, WAITING
from daemons.serving.conversation.tls_messages import HandshakeMessages
from daemons.serving.conversation.tls_subject import subject_of
from daemons.serving.conversation.wrapper import ConversationWrapper

#: Maximum content of a record in bytes, and size of its header: type, version, length (RFC 8446, section 5.1).
RECORD = 16 * 1024
HEADER = 5

#: Bytes that OpenSSL 3 allocates per connection for the handshake.  Measured: 3,000 incomplete handshakes take 137 MiB.
OPENSSL_MEMORY = 46 * 1024

#: Maximum bytes per write to the BIO.  A BIO never shrinks while the connection lasts: after one write of 64 KiB it
#: keeps 87 KiB, with this limit 22 KiB.
MAX_WRITE = 16 * 1024


class TLS:
    """TLS side of a server.  `context` may be replaced at any time, for example by one with a newer certificate:
    conversations that have begun keep theirs."""

    __slots__ = ("context",)

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def secure(self, conversation: Conversation, explain: Callable[[str], None] = lambda reason: None) -> Conversation:
        """Return `conversation` in a TLS wrapper.  On a TLS error, `explain` is called with OpenSSL's reason."""
        return Secured(conversation, self.context, explain)


def reason_of(error: OSError) -> str:
    """Return OpenSSL's reason, for example ``unsupported-protocol`` or ``http-request``; empty if there is none."""
    reason = getattr(error, "reason", None) or ""
    return reason.lower().replace("_", "-")


class Secured(ConversationWrapper):
    """TLS wrapper of `inner`.

    The input buffer is bounded by the argument of `receive` plus one record, the output buffer by the reply of `inner`
    plus one batch."""

    __slots__ = (
        "_close_notify",
        "_context",
        "_end_passed",
        "_eof",
        "_explain",
        "_head",
        "_incoming",
        "_messages",
        "_outgoing",
        "_records",
        "_rest",
        "_tls",
        "_unfed",
        "_unsent",
    )

    def __init__(self, inner: Conversation, context: ssl.SSLContext, explain: Callable[[str], None]) -> None:
        super().__init__(inner)
        self._context = context
        self._explain = explain
        # These take about 20 KiB, so they are created when the peer sends the first bytes.
        self._tls: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO
        #: Received part of an incomplete record header.
        self._head = b""
        #: Missing bytes of the current record.
        self._rest = 0
        #: Received bytes that are not yet in the BIO; b"" between two turns.
        self._unfed: bytes | memoryview = b""
        #: The handshake messages of the peer, until the handshake is complete.
        self._messages: HandshakeMessages | None = None
        #: Reply of `inner` that is not yet encrypted.
        self._unsent: bytes | memoryview = b""
        #: Encrypted records of this turn; empty between two turns.
        self._records: list[bytes] = []
        #: Whether the input has ended with a close_notify alert.
        self._close_notify = False
        #: Whether the TCP stream has ended.
        self._eof = False
        #: Whether the end of the input has been passed to `inner`.
        self._end_passed = False

    def receive(self, data: bytes) -> bytes:
        if self.state == OVER or self._eof:
            return b""
        if data:
            if self._tls is None:
                self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
                self._messages = HandshakeMessages(self._context)
            self._unfed = data
            self._measure(data)
        else:
            self._eof = True
        if self._tls is None:
            # The peer has closed without sending a byte, as port scanners do.
            self._end(Ending.HANDSHAKE)
            return b""
        return self._turn(self._tls)

    def proceed(self, *, files: bool = False) -> bytes:
        if self.state != PENDING or self._tls is None:
            return b""
        return self._turn(self._tls)

    def deliver(self) -> bytes:
        if self._tls is None or self.state in (SHAKING, PENDING, OVER):
            return b""  # while the state is PENDING, `proceed` sends earlier pushes
        self._queue(self._inner.deliver())
        return self._turn(self._tls)

    def resume(self) -> bytes:
        if self._tls is None or self.state == OVER:
            return b""
        self._queue(self._inner.resume())
        return self._turn(self._tls)

    def _turn(self, tls: ssl.SSLObject) -> bytes:
        """Process all available input, up to a batch of replies; return the bytes to send."""
        before, answered = self.state, self.messages
        try:
            if self.state != SHAKING or self._do_handshake(tls):
                if data := self._decrypt(tls):
                    self._queue(self._inner.receive(data))
                self._answer_encrypted(tls)
                self._update_state(tls, before, answered)
        except OSError as error:  # an ssl.SSLError is one
            self._break_off(error)
        self._unfed = b""  # bytes after the end are ignored
        if not self._records:
            return self._outgoing.read()
        records, self._records = self._records, []
        return b"".join((*records, self._outgoing.read()))

    def _do_handshake(self, tls: ssl.SSLObject) -> bool:
        """Continue the handshake; return whether it is complete."""
        if self._eof:
            self._end(Ending.HANDSHAKE)
            return False
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                if not self._feed():
                    return False
            else:
                break
        self._messages = None
        if self._context.verify_mode != ssl.CERT_NONE and (subject := subject_of(tls)) is not None:
            self._inner.identify(subject)
        self._queue(self._open_inner())
        return True

    def _open_inner(self) -> bytes:
        """Begin the inner conversation after the handshake; return its greeting."""
        return self._inner.open()

    def _feed(self) -> bool:
        """Write the next portion of received bytes to the BIO; return whether there was one."""
        data = memoryview(self._unfed)
        if data:
            self._incoming.write(data[:MAX_WRITE])
            self._unfed = data[MAX_WRITE:]
        return bool(data)

    def _decrypt(self, tls: ssl.SSLObject) -> bytes:
        """Return the content of all complete records: each pipelined message may have a record of its own."""
        pieces: list[bytes] = []
        while not self._close_notify and (self._incoming.pending or self._feed()):
            try:
                data = tls.read(RECORD)
            except ssl.SSLWantReadError:
                if not self._feed():
                    break
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            if data:
                pieces.append(data)
            else:
                self._close_notify = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _answer_encrypted(self, tls: ssl.SSLObject) -> None:
        """Encrypt replies of `inner`, until there are no more or a batch is full."""
        inner, outgoing = self._inner, self._outgoing
        size = 0
        while size + outgoing.pending < BATCH:
            if self._unsent:
                if outgoing.pending + len(self._unsent) > RECORD and outgoing.pending:
                    size += outgoing.pending
                    self._records.append(outgoing.read())
                sent = tls.write(self._unsent[:RECORD])
                self._unsent = memoryview(self._unsent)[sent:] if sent < len(self._unsent) else b""
            elif inner.state == PENDING:
                self._unsent = inner.proceed()
                if not self._unsent and inner.state == PENDING:
                    break  # an empty piece: other conversations get a turn
            elif inner.state in (OVER, WAITING) or self._end_passed or not self._input_over:
                break
            elif self._close_notify or (inner.state == IDLE and not self._in_record):
                self._end_passed = True
                self._unsent = inner.receive(b"")
            elif inner.pushed:
                self._unsent = inner.deliver()
            else:
                # Without close_notify, an attacker may have truncated the stream (RFC 8446, section 6.1), so a message
                # that lasts until the end of the input is incomplete.
                self._end(Ending.CUT)
                break

    def _update_state(self, tls: ssl.SSLObject, before: int, answered: int) -> None:
        """Set the state at the end of a turn."""
        inner = self._inner
        self.messages = inner.messages
        if self.state == OVER:
            return
        end_pending = self._input_over and not self._end_passed and inner.state not in (OVER, WAITING)
        if self._unsent or inner.state == PENDING or end_pending:
            self.state = PENDING
        elif inner.state == WAITING:
            self.state = WAITING
        elif inner.state == OVER or self._end_passed:
            self.failure = inner.failure
            ending = inner.ending or Ending.DONE
            # After DONE the connection would be closed at once.  Before the end of the input, the peer may still be
            # sending records, so the connection must linger: FINISHED.
            self._end(Ending.FINISHED if ending is Ending.DONE and not self._input_over else ending)
            self._send_close_notify(tls)
        elif inner.state != IDLE or self._in_record:
            self.state = PARTIAL
        else:
            # An engine sets a new deadline after an answered message.  Without one, after a handshake or after a record
            # without a whole message, report PENDING once: the engine calls `proceed`, sets a new deadline, and reads
            # the state IDLE.
            quiet = before in (SHAKING, PARTIAL) and self.messages == answered
            self.state = PENDING if quiet else IDLE

    @property
    def buffered(self) -> int:
        """Bytes held in both directions, plus OpenSSL's own memory for the connection."""
        held = self._inner.buffered
        if self._tls is None:
            return held
        if self._messages is not None:
            held += self._messages.reserved
        return held + OPENSSL_MEMORY + self._incoming.pending + self._outgoing.pending + len(self._unsent)

    def _queue(self, reply: bytes) -> None:
        self._unsent = b"".join((self._unsent, reply)) if self._unsent else reply

    def _send_close_notify(self, tls: ssl.SSLObject) -> None:
        try:
            tls.unwrap()
        except OSError:
            pass  # the peer's close_notify is not awaited

    def _break_off(self, error: OSError) -> None:
        """End after a protocol error or an alert of the peer.  Our alert, if any, is in the outgoing bytes."""
        self.messages = self._inner.messages
        reason = reason_of(error)
        self._explain(reason)
        if self.state == SHAKING:
            self._end(Ending.HANDSHAKE)
        elif "alert" in reason.split("-"):
            self._end(Ending.RESET)
        else:
            self._end(Ending.MALFORMED)

    def _end(self, ending: Ending) -> None:
        self.state = OVER
        self.ending = ending
        self._unsent = b""

    @property
    def _input_over(self) -> bool:
        return self._close_notify or self._eof

    @property
    def _in_record(self) -> bool:
        return bool(self._rest or self._head)

    def _measure(self, data: bytes) -> None:
        """Track record boundaries: OpenSSL does not report an incomplete record, and a peer that has sent one is not
        idle."""
        if self._messages is not None:
            self._messages.receive(data)
        if self._head:
            data = self._head + data
        end = self._rest
        while end + HEADER <= len(data):
            end += HEADER + int.from_bytes(data[end + 3 : end + HEADER], "big")
        self._head = data[end:]
        self._rest = max(0, end - len(data))
