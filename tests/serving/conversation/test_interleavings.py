"""Pushes, waits and late replies without sockets: calls in any order, against a sequential model.

The model is one byte string: replies in the order in which the talk made them, and pushes in the order in which they
were accepted.  The output must be a prefix of it at any time, and all of it in the end, through every layer."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons import Ending, Peer, PeerGone, Service, Talk, Until, Wait
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING, SHAKING, WAITING
from daemons.serving.conversation.tls import TLS
from tests.serving.tls_client import ours, theirs

HEADER = b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1060\r\n"
APOLOGY = b"sorry\n"

#: Commands to the talk, each a line.
DEEDS = (
    *("plain", "own push", "wait", "wait in pieces", "later", "done", "in pieces", "long", "later in pieces"),
    *("raise", "fail later", "cancel", "end", "end later", "overlong" * 20),
)


class Model(Service):
    """A talk that does what each line says."""

    framing = Until(b"\n", limit=100)

    def __init__(self) -> None:
        super().__init__()
        self.peer = Peer()
        #: What must come out.
        self.owed = bytearray()
        #: The future that the talk has yielded last, its deed, and its reply.
        self.late: tuple[Future[Any], str, bytes] | None = None

    def owe(self, data: bytes) -> bytes:
        self.owed += data
        return data

    def apology(self, ending: Ending) -> bytes:
        return self.owe(APOLOGY)

    def push(self, data: bytes) -> None:
        self.peer.send(data)
        self.owe(data)

    def talk(self, peer: Peer) -> Talk:
        self.peer = peer
        number = 0
        reply: Any = self.owe(b"hello\n")
        while True:
            deed = (yield reply).decode().strip()
            number += 1
            text = f"{number} {deed}\n".encode()
            if deed.startswith("wait"):
                waiting = self.owe(b"%d waits\n" % number)
                got = yield Wait(waiting if deed == "wait" else in_pieces(waiting), 1.0 if deed == "wait" else None)
                reply = self.owe(b"%d got %r\n" % (number, got))
            elif deed in ("later", "done", "later in pieces", "fail later", "cancel", "end later"):
                reply = Future()
                self.late = reply, deed, text
                if deed == "done":
                    self.finish()
            elif deed == "raise":
                raise ArithmeticError("intended")
            else:
                if deed == "own push":
                    self.push(b"+own\n")
                    self.push(b"+own again\n")
                text = text if deed != "long" else b"%d %s\n" % (number, b"l" * (BATCH + 9))
                reply = self.owe(text) if deed in ("plain", "own push", "end") else in_pieces(self.owe(text))
            if deed.startswith("end"):
                return reply  # type: ignore[no-any-return]

    def finish(self) -> None:
        """Finish the reply that comes later."""
        if self.late is not None and not self.late[0].done():
            future, deed, reply = self.late
            if deed == "cancel":
                future.cancel()
            elif deed == "fail later":
                future.set_exception(ArithmeticError("intended"))
            else:
                future.set_result(in_pieces(reply) if deed == "later in pieces" else reply)


def in_pieces(data: bytes) -> Iterator[bytes]:
    yield data[:2]
    yield b""
    yield data[2:]


class Plain:
    """The client's side of a connection."""

    def __init__(self, layer: str) -> None:
        self.model = Model()
        self.inner = self.outer = Conversation(self.model, None, Peer)
        self.wire = b""
        self.got = bytearray()
        self.ended = False
        self._tls: ssl.SSLObject | None = None
        if "tls" in layer:
            self.outer = TLS(ours()).secure(self.inner)
        if "proxy" in layer:
            self.outer = ProxiedConversation(self.outer, lambda header: None)
        self.take(self.outer.open())
        if "proxy" in layer:
            self.wire = HEADER
        if "tls" in layer:
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = theirs().wrap_bio(self._in, self._out, server_hostname="localhost")
            while True:
                with suppress(ssl.SSLWantReadError):
                    self._tls.do_handshake()
                    break
                self._flush()
            self._flush()

    def _flush(self) -> None:
        """Exchange all bytes, until the handshake has made progress."""
        self.wire += self._out.read()
        self.receive(len(self.wire))
        while self.outer.state == PENDING:
            self.take(self.outer.proceed())

    def send(self, data: bytes) -> None:
        if self._tls is None:
            self.wire += data
        else:
            self._tls.write(data)
            self.wire += self._out.read()

    def receive(self, size: int) -> None:
        data, self.wire = self.wire[:size], self.wire[size:]
        if data:
            self.take(self.outer.receive(data))

    def end(self) -> None:
        if self._tls is not None and not self.wire and not self.ended:
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self.take(self.outer.receive(self._out.read()))
        self.ended = True
        self.take(self.outer.receive(b""))

    def resume(self) -> None:
        """Call `resume` if the contract allows it."""
        if self.outer.state != WAITING or not (self.outer.ready or self.outer.timeout is not None):
            return
        if self.model.late is not None:
            future, _, reply = self.model.late
            self.model.late = None
            if not future.cancelled() and future.exception() is None:
                self.model.owe(reply)
        self.take(self.outer.resume())

    def push(self, number: int) -> None:
        if self.inner.state == SHAKING or not self.model.owed:
            return  # the talk has not begun
        data = b"+%d\n" % number
        if OVER in (self.inner.state, self.outer.state):
            self.model.peer.send(data)  # too late to be sent, but the peer has not left
        else:
            self.model.push(data)

    def take(self, data: bytes) -> None:
        """Check the output of a call."""
        assert type(data) is bytes
        if self._tls is None:
            self.got += data
        elif data:
            self._in.write(data)
            if self._tls.version() is not None:
                with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                    while plain := self._tls.read(2**16):
                        self.got += plain
        assert self.model.owed.startswith(self.got), (bytes(self.got[-80:]), bytes(self.model.owed[-200:]))
        outer, peer = self.outer, self.model.peer
        assert outer.buffered >= peer.pushed
        assert outer.pushed is (peer.pushed > 0)
        assert (outer.ending is None) is (outer.state != OVER)
        if outer is self.inner and outer.state == IDLE:
            assert outer.buffered <= peer.pushed + 1  # the decoder may keep the last delimiter


ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from((*DEEDS, *DEEDS[:9], *DEEDS[:9]))),
    st.tuples(st.just("receive"), st.sampled_from((1, 3, 8, 40, 1000, 10**6))),
    st.tuples(st.sampled_from(("proceed", "deliver", "resume", "push", "push", "notify", "finish")), st.integers(0, 9)),
    st.tuples(st.just("end"), st.integers(0, 9)),
)


@pytest.mark.parametrize("layer", ["plain", "tls", "proxy", "tls behind proxy"])
@given(st.lists(ACTIONS, max_size=50))
def test_replies_and_pushes_come_out_in_order_whatever_is_called_when(layer: str, actions: list[Any]) -> None:
    client = Plain(layer)
    outer, model = client.outer, client.model
    for action, argument in actions:
        if action == "send" and not client.ended:
            client.send(argument.encode() + b"\n")
        elif action == "receive" and not client.ended:
            client.receive(argument)
        elif action == "proceed" and outer.state == PENDING:
            client.take(outer.proceed())
        elif action == "deliver" and outer.state != SHAKING:
            client.take(outer.deliver())
        elif action == "resume":
            client.resume()
        elif action == "push":
            client.push(argument)
        elif action == "notify":
            model.peer.notify(argument)
        elif action == "finish":
            model.finish()
        elif action == "end" and argument == 0:
            client.end()
    settle(client)
    assert client.got == model.owed
    leave(client)


def settle(client: Plain) -> None:
    """Send the rest of the input, and end all waits."""
    outer, model = client.outer, client.model
    for _ in range(1000):
        if client.wire and not client.ended:
            client.receive(10**6)
        if outer.state == PENDING:
            client.take(outer.proceed())
        elif outer.state == WAITING:
            model.finish()
            model.peer.notify(b"end")
            client.resume()
        elif outer.state != SHAKING:
            client.take(outer.deliver())
            if outer.state in (IDLE, PARTIAL, OVER) and not (client.wire and not client.ended):
                return
    raise AssertionError(f"state {outer.state}: not settled")


def leave(client: Plain) -> None:
    """Close the conversation; nothing that comes later has an effect."""
    client.outer.close()
    client.outer.close()
    began = bool(client.model.owed)  # behind a proxy, the talk begins after the header
    for call in (client.model.peer.send, client.model.peer.notify) if began else ():
        with pytest.raises(PeerGone):
            call(b"x")
    client.model.finish()
    assert client.outer.deliver() == b""


@pytest.mark.parametrize("layer", ["plain", "tls", "proxy"])
@given(st.lists(ACTIONS, max_size=30), st.booleans())
def test_conversation_may_be_closed_at_any_time(layer: str, actions: list[Any], done: bool) -> None:
    client = Plain(layer)
    for action, argument in actions:
        if action == "send":
            client.send(argument.encode() + b"\n")
            client.receive(10**6)
        elif action == "push":
            client.push(argument)
    if done:
        client.model.finish()
    leave(client)


def test_talk_that_pushes_more_to_its_own_peer_than_may_be_buffered_is_stuck() -> None:
    class Flood(Model):
        def talk(self, peer: Peer) -> Talk:
            yield None
            while True:
                peer.send(b"flood\n")

    talk = Conversation(Flood(), None, lambda: Peer(outbox=100))
    talk.open()
    assert talk.receive(b"go\n") == b""
    assert (talk.ending, talk.failure) == (Ending.STUCK, None)


def test_push_to_a_peer_that_left_raises_peer_gone_even_if_it_cannot_be_encoded() -> None:
    def encode(message: bytes) -> bytes:
        raise ValueError("a line end in a line")

    peer = Peer()
    peer.begin(encode)
    with pytest.raises(ValueError, match="a line end"):
        peer.send(b"\n")
    peer.leave()
    with pytest.raises(PeerGone):
        peer.send(b"\n")


def test_what_a_talk_pushes_in_its_finally_comes_before_its_last_reply() -> None:
    class Farewell(Model):
        def talk(self, peer: Peer) -> Talk:
            try:
                yield None
                return b"last\n"
            finally:
                peer.send(b"pushed\n")

    talk = Conversation(Farewell(), None, Peer)
    talk.open()
    assert talk.receive(b"go\n") == b"pushed\nlast\n"
    assert (talk.ending, talk.failure) == (Ending.FINISHED, None)


def test_talk_of_pushes_may_be_collected_while_another_push_is_made() -> None:
    peer, other = Peer(), Peer()

    class Collected(bytes):
        def __len__(self) -> int:
            other.send(b"from a finalizer")  # as the garbage collector may do while the lock is held
            return 0

    peer.send(Collected(b"x"))
    assert other.take() == b"from a finalizer"
