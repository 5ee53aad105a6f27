"""TLS, without I/O: a conversation whose bytes are encrypted, around one whose bytes are not.

The contract is that of `daemons.serving.conversation.conversation`, so that no engine knows the difference: *for any
bytes it returns bytes and maybe comes to an ending; it never raises.*  Until the handshake is complete the
state is SHAKING; from then on it is that of the conversation inside.

No sockets: `ssl.MemoryBIO` takes and gives bytes.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from daemons.serving.conversation.conversation import IDLE, OVER, PARTIAL, PENDING, SHAKING, Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.tls_messages import HandshakeMessages
from daemons.serving.conversation.wrapper import ConversationWrapper

#: The most that one record carries, and the octets before it: type, version, length (RFC 8446, section 5.1).
RECORD = 16 * 1024
HEADER = 5

#: Bytes that OpenSSL 3 keeps for a connection in its handshake, measured: 3,000 half handshakes take 137 MiB.
STATE = 46 * 1024

#: Bytes that OpenSSL is given at a time.  A BIO keeps the room for the most that was ever in it, for as long as the
#: connection lasts: 87 KiB after one read of 64 KiB, 22 KiB with this.
PORTION = 16 * 1024


class TLS:
    """What a server needs to be a TLS server.  `context` may be replaced at any time, by one with a newer
    certificate: conversations under way keep the one they began with."""

    __slots__ = ("context",)

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def secure(self, conversation: Conversation, explain: Callable[[str], None] = lambda reason: None) -> Conversation:
        """The same conversation, encrypted.  `explain` is called with one word when TLS itself fails."""
        return Secured(conversation, self.context, explain)


def reason_of(error: OSError) -> str:
    """What went wrong, in one word: OpenSSL's own, ``unsupported-protocol`` or ``http-request``."""
    reason = getattr(error, "reason", None) or ""
    return reason.lower().replace("_", "-")


class Secured(ConversationWrapper):
    """`inner`, encrypted.  What it holds of either direction is bounded: of the input by what one `receive`
    was given and one record; of the output, beyond the reply of `inner`, by one batch."""

    __slots__ = (
        "_context",
        "_eof",
        "_explain",
        "_goodbye",
        "_head",
        "_incoming",
        "_messages",
        "_outgoing",
        "_rest",
        "_sealed",
        "_tls",
        "_told",
        "_unfed",
        "_unsent",
    )

    def __init__(self, inner: Conversation, context: ssl.SSLContext, explain: Callable[[str], None]) -> None:
        super().__init__(inner)
        self._context = context
        self._explain = explain
        # These cost some 20 KiB, so they wait for a peer that says something.
        self._tls: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO
        #: The part of a record's header that has come, or else how much of a record is yet to come.
        self._head = b""
        self._rest = 0
        #: What the peer has sent and OpenSSL was not yet given; b"" between two turns.
        self._unfed: bytes | memoryview = b""
        #: The handshake messages of the peer, until the handshake is complete.
        self._messages: HandshakeMessages | None = None
        #: What `inner` has said and is not yet encrypted.
        self._unsent: bytes | memoryview = b""
        #: Records of this turn; b"" between two turns.
        self._sealed: list[bytes] = []
        #: The input has ended; and whether the peer said so (close_notify), or the network did.
        self._goodbye = False
        self._eof = False
        #: Whether `inner` has been told.
        self._told = False

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
            # Somebody who looked whether the port is open.
            self._end(Ending.HANDSHAKE)
            return b""
        return self._turn(self._tls)

    def proceed(self, *, files: bool = False) -> bytes:
        if self.state != PENDING or self._tls is None:
            return b""
        return self._turn(self._tls)

    def _turn(self, tls: ssl.SSLObject) -> bytes:
        """Go on with what there is, up to a batch; returns the bytes to send."""
        before, answered = self.state, self.messages
        try:
            if self.state != SHAKING or self._shake(tls):
                if data := self._decrypt(tls):
                    self._queue(self._inner.receive(data))
                self._answer_encrypted(tls)
                self._look(tls, before, answered)
        except OSError as error:  # an ssl.SSLError is one
            self._break_off(error)
        self._unfed = b""  # what comes behind the end is not looked at
        if not self._sealed:
            return self._outgoing.read()
        sealed, self._sealed = self._sealed, []
        return b"".join((*sealed, self._outgoing.read()))

    def _shake(self, tls: ssl.SSLObject) -> bool:
        """Go on with the handshake; returns whether it is complete."""
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
        self._queue(self._inner.open())
        return True

    def _feed(self) -> bool:
        """Give OpenSSL the next portion of what the peer has sent; returns whether there was one."""
        data = memoryview(self._unfed)
        if data:
            self._incoming.write(data[:PORTION])
            self._unfed = data[PORTION:]
        return bool(data)

    def _decrypt(self, tls: ssl.SSLObject) -> bytes:
        """All that can be read, at once: each write of a peer is a record of its own, and a pipeline many."""
        pieces: list[bytes] = []
        while not self._goodbye and (self._incoming.pending or self._feed()):
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
                self._goodbye = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _answer_encrypted(self, tls: ssl.SSLObject) -> None:
        """Encrypt what `inner` says, until it has no more to say for now or a batch is full."""
        inner, outgoing = self._inner, self._outgoing
        size = 0
        while size + outgoing.pending < BATCH:
            if self._unsent:
                if outgoing.pending + len(self._unsent) > RECORD and outgoing.pending:
                    size += outgoing.pending
                    self._sealed.append(outgoing.read())
                sent = tls.write(self._unsent[:RECORD])
                self._unsent = memoryview(self._unsent)[sent:] if sent < len(self._unsent) else b""
            elif inner.state == PENDING:
                self._unsent = inner.proceed()
                if not self._unsent and inner.state == PENDING:
                    break  # it lets the others have their turn
            elif inner.state == OVER or self._told or not self._input_over:
                break
            elif self._goodbye or (inner.state == IDLE and not self._in_record):
                self._told = True
                self._unsent = inner.receive(b"")
            else:
                # Anybody between us can end a TCP connection.  Without the peer's word for it, a message
                # that lasts until the end of the input has not come whole.
                self._end(Ending.CUT)
                break

    def _look(self, tls: ssl.SSLObject, before: int, answered: int) -> None:
        """What is the state now?"""
        inner = self._inner
        self.messages = inner.messages
        if self.state == OVER:
            return
        untold = self._input_over and not self._told and inner.state != OVER  # who is over need not be told
        if self._unsent or inner.state == PENDING or untold:
            self.state = PENDING
        elif inner.state == OVER or self._told:
            self.failure = inner.failure
            ending = inner.ending or Ending.DONE
            # Where the message was the last, TLS may have more to say.
            self._end(Ending.FINISHED if ending is Ending.DONE and not self._input_over else ending)
            self._say_goodbye(tls)
        elif inner.state != IDLE or self._in_record:
            self.state = PARTIAL
        else:
            # An engine sets a new deadline when a message has been answered.  Here something else has come
            # to its end, the handshake or a record with no message in it: so it is asked to look again.
            quiet = before in (SHAKING, PARTIAL) and self.messages == answered
            self.state = PENDING if quiet else IDLE

    @property
    def buffered(self) -> int:
        """Bytes kept in both directions, and those that OpenSSL needs for a connection."""
        held = self._inner.buffered
        if self._tls is None:
            return held
        if self._messages is not None:
            held += self._messages.reserved
        return held + STATE + self._incoming.pending + self._outgoing.pending + len(self._unsent)

    def _queue(self, reply: bytes) -> None:
        self._unsent = b"".join((self._unsent, reply)) if self._unsent else reply

    def _say_goodbye(self, tls: ssl.SSLObject) -> None:
        try:
            tls.unwrap()
        except OSError:
            pass  # it wants to read the peer's goodbye, for which nobody waits

    def _break_off(self, error: OSError) -> None:
        """The peer has broken the rules of TLS, or says that we have.  The alert is in the outgoing bytes."""
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
        return self._goodbye or self._eof

    @property
    def _in_record(self) -> bool:
        return bool(self._rest or self._head)

    def _measure(self, data: bytes) -> None:
        """Keep track of where records end.  OpenSSL holds the first part of one without saying so, and a
        peer that has sent half a record is not idle."""
        if self._messages is not None:
            self._messages.receive(data)
        if self._head:
            data = self._head + data
        end = self._rest
        while end + HEADER <= len(data):
            end += HEADER + int.from_bytes(data[end + 3 : end + HEADER], "big")
        self._head = data[end:]
        self._rest = max(0, end - len(data))
