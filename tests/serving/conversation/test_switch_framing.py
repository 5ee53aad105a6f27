"""A talk that changes the framing: no byte is lost or repeated, wherever the input is cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemons import (
    Blocks,
    Compressed,
    Ending,
    Fixed,
    Framing,
    LengthPrefixed,
    Lines,
    Peer,
    Service,
    StartTLS,
    Stream,
    SwitchFraming,
    Talk,
    Until,
    Wait,
    Whole,
)
from daemons.framings import Incomplete, Oversize
from daemons.framings.http import HTTP
from daemons.framings.websocket import (
    Close,
    Handshake,
    Ping,
    Pong,
    WebSocket,
    accept_handshake,
    new_key,
    read_handshake,
    request_handshake,
)
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.service_binding import ServiceBinding
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING, WAITING
from daemons.serving.conversation.stepping import SteppingConversation, conversation_class
from daemons.serving.conversation.steps import Step
from tests.framings.websocket.frames import frame

#: Limits so low that random bytes often reach them.
FRAMINGS: list[Framing] = [
    Lines(limit=16),
    Until(b"..", limit=9, skip=b" "),
    Fixed(2),
    LengthPrefixed(limit=9, prefix="!B"),
    Blocks(limit=12, prefix="!B"),
    Lines(limit=12, quoted=True),
    Whole(limit=20),
]


class Chameleon(Service):
    """Reply with each message in hexadecimal digits.  The message determines the next framing."""

    framing = Lines(limit=16)
    switches = True

    def talk(self, peer: Peer) -> Talk:
        message = yield b"hello"
        framing: Framing = self.framing
        while True:
            peer.send(b"seen")
            choice, reply = sum(message) % 12, message.hex().encode()
            if choice < len(FRAMINGS):
                framing = FRAMINGS[choice]
                message = yield SwitchFraming(reply, framing)
            elif choice == 7 and type(framing).encode is Framing.encode:
                message = yield SwitchFraming(iter([reply, b"", b"more"]), FRAMINGS[1])
                framing = FRAMINGS[1]
            elif choice == 8:
                yield_value = yield Wait(reply)
                message = b"waited" if yield_value is None else b""
            elif choice == 9:
                yield Wait(None)
                framing = FRAMINGS[2]
                message = yield SwitchFraming(reply, framing)
            else:
                message = yield reply

    def apology(self, ending: Ending) -> bytes:
        return f"<{ending.value}>".encode()


Result = tuple[bytes, int, Ending | None, str]


def converse(service: Service, pieces: Iterable[bytes], conversation: Conversation | None = None) -> Result:
    """Pass `pieces` and the end of the input; return the output, the number of messages, the ending and its reason."""
    made = conversation or conversation_class(service)(service, None, lambda: Peer(outbox=1 << 20))
    output = [made.open()]

    def settle() -> None:
        while made.state in (PENDING, WAITING):
            output.append(made.proceed() if made.state == PENDING else made.resume())

    settle()
    for piece in [*filter(None, pieces), b""]:
        output.append(made.receive(piece))
        settle()
        assert made.state in (IDLE, PARTIAL, OVER)
        assert made.buffered <= 250
    assert made.state == OVER
    made.close()
    assert made.failure is None
    return b"".join(output), made.messages, made.ending, made.reason


def expected(service: Chameleon, data: bytes) -> Result:
    """The expected output, by a model: it decodes with fresh decoders, from one byte to the next."""
    pushes: list[bytes] = []
    framing: Framing = service.framing

    class Recorder(Peer):
        __slots__ = ()

        def send(self, message: bytes) -> None:
            pushes.append(framing.encode(message))

    talk = service.talk(Recorder())
    output: list[bytes] = []
    count = at = 0

    def step(value: Any) -> None:
        nonlocal framing
        produced = talk.send(value)
        output.extend(pushes)
        pushes.clear()
        reply = produced.reply if isinstance(produced, Step) else produced
        if isinstance(reply, Iterator):
            output.extend(reply)  # type: ignore[arg-type]  # there is no file in it
        elif isinstance(reply, bytes):
            output.append(framing.encode(reply))
        if isinstance(produced, SwitchFraming):
            framing = produced.framing
        if isinstance(produced, Wait):
            step(None)

    step(None)
    while True:
        decoder = framing.decoder()
        begun = at
        messages: Sequence[bytes] = ()
        while at < len(data) and not messages and decoder.error is None:
            messages = decoder.decode(data[at : at + 1])
            at += 1
        if not messages and decoder.error is None and at > begun:
            messages = decoder.finish()
        if not messages:
            break
        count += 1
        step(messages[0])
    talk.close()
    if decoder.error is None:
        return b"".join(output), count, Ending.DONE, ""
    kind = {Incomplete: Ending.CUT, Oversize: Ending.OVERSIZE}.get(type(decoder.error), Ending.MALFORMED)
    output.append(b"" if kind is Ending.CUT else service.apology(kind))
    return b"".join(output), count, kind, str(decoder.error)


INPUT = st.lists(
    st.binary(max_size=6)
    | st.sampled_from([b"\n", b"..", b"\0", b"\x01a", b"\x02ab\0", b"a\n", b" b..", b"\\n", b"\r\n"])
    | st.text("abcdefghijkl\n.", max_size=30).map(str.encode),
    max_size=8,
)


@settings(max_examples=200)
@given(INPUT)
@example([b"a\n", b"b\n", b"..", b"\n"])
@example([b"H\n", b"01", b"x\n"])  # a wait, then another framing, with bytes behind
def test_output_is_that_of_the_model_wherever_the_input_is_cut(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    result = expected(Chameleon(), data)
    assert converse(Chameleon(), [data]) == result
    assert converse(Chameleon(), pieces) == result
    assert converse(Chameleon(), [data[at : at + 1] for at in range(len(data))]) == result


class Mail(Service):
    """Lines; after DATA, text up to a line with a dot, then lines again.  BDAT n: n bytes."""

    framing = Lines(limit=100)
    switches = True

    def talk(self, peer: Peer) -> Talk:
        line = yield b"220 ready"
        while line != b"QUIT":
            word, _, argument = line.partition(b" ")
            if word == b"DATA":
                text = yield SwitchFraming(b"354 go ahead", Until(b"\r\n.\r\n", limit=100))
                line = yield SwitchFraming(b"250 %d bytes\n" % len(text), self.framing)
            elif word == b"BDAT":
                text = yield SwitchFraming(None, Fixed(int(argument)))
                line = yield SwitchFraming(b"250 %d bytes\n" % len(text), self.framing)
            else:
                line = yield b"250 " + word
        return b"221 bye"


MAIL = b"HELO a\r\nDATA\r\nQUIT\r\n..\r\n.\r\nBDAT 9\r\nDATA\r\nBDANOOP\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
REPLIES = (
    b"".join(
        line + b"\n"
        for line in (b"220 ready", b"250 HELO", b"354 go ahead", b"250 13 bytes", b"250 9 bytes", b"250 NOOP")
    )
    + b"354 go ahead\n250 6 bytes\n221 bye\n"
)


def test_mail_at_every_split_point_and_in_pieces_of_every_size() -> None:
    expected = REPLIES, 9, Ending.FINISHED, ""
    for at in range(1, len(MAIL) + 1):
        assert converse(Mail(), [MAIL[:at], MAIL[at:]]) == expected
        assert converse(Mail(), [MAIL[start : start + at] for start in range(0, len(MAIL), at)]) == expected


def test_datagram_may_change_the_framing() -> None:
    conversation = SteppingConversation(Mail())
    greeting = conversation.open()
    assert greeting + conversation.receive_all(MAIL) == REPLIES


def test_limit_of_the_new_framing_applies() -> None:
    _, messages, ending, reason = converse(Mail(), [b"DATA\n" + b"x" * 101])
    assert (messages, ending, reason) == (1, Ending.OVERSIZE, "no b'\\r\\n.\\r\\n' within 100 bytes")


def test_message_cut_short_in_the_new_framing_is_not_delivered() -> None:
    assert converse(Mail(), [b"DATA\nx\r\n."]) == (b"220 ready\n354 go ahead\n", 1, Ending.CUT, "")


def test_many_pipelined_messages_are_answered_in_batches() -> None:
    service = Mail()
    conversation = SteppingConversation(service)
    output = [conversation.open(), conversation.receive(MAIL[:-6] * 1500)]
    assert conversation.state == PENDING
    assert conversation.buffered >= len(MAIL) * 500
    while conversation.state == PENDING:
        output.append(conversation.proceed())
    assert max(map(len, output)) < BATCH + 100
    assert b"".join(output) == b"220 ready\n" + REPLIES[10:-8] * 1500
    assert (conversation.state, conversation.messages, conversation.buffered) == (IDLE, 12_000, 0)


def test_http_request_is_followed_by_another_protocol() -> None:
    class Upgrade(Service):
        framing = HTTP()
        switches = True
        greets = False

        def talk(self, peer: Peer) -> Talk:
            request = yield None
            message = yield SwitchFraming(b"%b 101\n" % request.body, LengthPrefixed(limit=9, prefix="!B"))
            while True:
                message = yield message.upper()

    data = b"\r\nPUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nup\x01a\x03\r\nz"
    for size in range(1, len(data) + 1):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert converse(Upgrade(), pieces) == (b"up 101\n\x01A\x03\r\nZ", 3, Ending.DONE, "")


def test_http_connection_becomes_a_websocket_at_every_cut() -> None:
    class Echo(Service):
        framing = HTTP()
        switches = True
        greets = False

        def talk(self, peer: Peer) -> Talk:
            handshake = read_handshake((yield None))
            message = yield SwitchFraming(accept_handshake(handshake), WebSocket(limit=99))
            while not isinstance(message, Close):
                message = yield Pong(message) if isinstance(message, Ping) else message
            return message

    request = request_handshake("a", "/", new_key())
    accepted = accept_handshake(Handshake(re.findall(rb"(?i)key: (\S+)", request)[0], (), ""))
    frames = [(1, b"Arthur", True), (2, b"Gala", False), (9, b"", True), (0, b"had", True), (8, b"\x03\xe8", True)]
    data = request + b"".join(frame(opcode, payload, final=final) for opcode, payload, final in frames)
    replies = [(1, b"Arthur"), (10, b""), (2, b"Galahad"), (8, b"\x03\xe8")]
    output = accepted + b"".join(frame(opcode, payload, mask=None) for opcode, payload in replies)
    for at in range(1, len(data) + 1):
        for pieces in ([data[:at], data[at:]], [data[start : start + at] for start in range(0, len(data), at)]):
            assert converse(Echo(), pieces) == (output, 5, Ending.FINISHED, "")


def test_greeting_may_change_the_framing() -> None:
    class Greeter(Service):
        framing = Lines(limit=9)
        switches = True

        def talk(self, peer: Peer) -> Talk:
            message: bytes = yield SwitchFraming(b"hello", Fixed(2))
            return message

    for greets in (True, False):
        service = type("Greeter", (Greeter,), {"greets": greets})()
        conversation = SteppingConversation(service)
        assert (conversation.open() if greets else b"") + conversation.receive(b"ab") == b"hello\nab"


def test_end_of_input_behind_a_switch_is_no_message() -> None:
    class Upload(Service):
        framing = Lines(limit=9)
        switches = True

        def talk(self, peer: Peer) -> Talk:
            yield None
            yield SwitchFraming(b"go", Whole(limit=99))
            return b"a file"

    for pieces in ([b"put\n"], [b"put", b"\n"]):
        assert converse(Upload(), pieces) == (b"go\n", 1, Ending.DONE, "")
    assert converse(Upload(), [b"put\nx", b"y"]) == (b"go\na file", 2, Ending.FINISHED, "")


def test_stream_delivers_the_bytes_behind_the_message_first() -> None:
    class Tunnel(Service):
        framing = Lines(limit=9)
        switches = True

        def talk(self, peer: Peer) -> Talk:
            yield None
            piece = yield SwitchFraming(b"open", Stream())
            while True:
                piece = yield piece

    assert converse(Tunnel(), [b"x\nab", b"c"])[0] == b"open\nabc"


class Pushing(Peer):
    """A peer to which another thread pushes right before and right after a change of the framing."""

    __slots__ = ()

    def switch(self, encode: Callable[[bytes], bytes] | None) -> bytes:
        self.send(b"2")
        before = super().switch(encode)
        self.send(b"4")
        return before


def test_pushes_are_encoded_by_the_framing_at_their_place_in_the_order() -> None:
    class Pushed(Service):
        framing = Lines(limit=9)
        switches = True

        def talk(self, peer: Peer) -> Talk:
            message = yield None
            peer.send(b"1")
            message = yield SwitchFraming(message, LengthPrefixed(limit=9, prefix="!B"))
            peer.send(b"5")
            return message  # type: ignore[no-any-return]  # the value of a step may be anything

    peer = Pushing()
    conversation = SteppingConversation(Pushed(), None, lambda: peer)
    conversation.open()
    assert conversation.receive(b"3\n\x016") == b"1\n2\n3\n\x014\x015\x016"


def test_push_encoded_before_the_change_and_queued_after_it_is_encoded_again() -> None:
    peer = Peer()

    def slowly(message: bytes) -> bytes:
        assert peer.switch(bytes.upper) == b""
        return message

    peer.begin(slowly)
    peer.send(b"late")
    assert peer.take() == b"LATE"


class Slow(Service):
    """Reply later, and change the framing."""

    framing = Lines(limit=9)
    switches = True

    def __init__(self, future: Future[Any], step: Callable[[Future[Any]], Any]) -> None:
        super().__init__()
        self.future = future
        self.step = step

    def talk(self, peer: Peer) -> Talk:
        yield None
        yield self.future
        yield self.step(self.future)
        return None

    def apology(self, ending: Ending) -> bytes:
        return b"sorry"


def test_reply_that_comes_later_is_followed_by_a_switch() -> None:
    future: Future[Any] = Future()
    conversation = SteppingConversation(Slow(future, lambda future: SwitchFraming(b"now", Fixed(2))))
    conversation.open()
    assert conversation.receive(b"a\nb\nx\n") == b""
    assert (conversation.state, conversation.buffered >= 4) == (WAITING, True)
    future.set_result(b"later")
    assert conversation.ready
    assert conversation.resume() == b"later\nnow\n"
    assert (conversation.state, conversation.ending, conversation.messages) == (OVER, Ending.FINISHED, 3)


def test_switch_with_a_reply_that_comes_later_is_a_failure() -> None:
    future: Future[Any] = Future()
    conversation = SteppingConversation(Slow(future, lambda future: SwitchFraming(Future(), Fixed(2))))
    conversation.open()
    conversation.receive(b"a\nb\n")
    future.set_result(b"later")
    assert conversation.resume() == b"later\nsorry"
    assert "yield the future before it" in str(conversation.failure)


def test_switch_as_the_result_of_a_future_is_a_failure() -> None:
    future: Future[Any] = Future()
    conversation = SteppingConversation(Slow(future, lambda future: b""))
    conversation.open()
    conversation.receive(b"a\n")
    future.set_result(SwitchFraming(b"x", Fixed(2)))
    assert conversation.resume() == b"sorry"
    assert str(conversation.failure) == "SwitchFraming was the result of a future; it can only be yielded"


# --- refused steps --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (partial(SwitchFraming, b"a", Fixed(1)), "yielded SwitchFraming, but does not declare switches = True"),
        (partial(StartTLS, b"a"), "yielded StartTLS, but does not declare starts_tls = True"),
        (partial(Step, b"a"), "yielded Step, which is no known step"),
    ],
)
@pytest.mark.parametrize("declared", ["", "switches", "starts_tls"])
def test_step_that_the_service_did_not_declare_is_a_failure(step: Callable[[], Step], text: str, declared: str) -> None:
    if declared and declared in text:
        return

    class Undeclared(Service):
        framing = Lines(limit=9)

        def talk(self, peer: Peer) -> Talk:
            yield None
            yield step()
            return None

        def apology(self, ending: Ending) -> bytes:
            return b"sorry"

    service = type("Undeclared", (Undeclared,), {declared: True} if declared else {})()
    conversation = conversation_class(service)(service)
    conversation.open()
    assert conversation.receive(b"x\ny\n") == b"sorry"
    assert conversation.ending is Ending.FAILED
    assert isinstance(conversation.failure, TypeError)
    assert str(conversation.failure) == f"Undeclared.talk {text}"


def test_conversation_that_decodes_all_at_once_refuses_to_switch() -> None:
    conversation = Conversation(Mail())
    conversation.open()
    conversation.receive(b"DATA\nx")
    assert "needs a conversation of the class that conversation_class() returns" in str(conversation.failure)


def test_service_that_declares_it_needs_a_talk_and_a_framing_that_can() -> None:
    class Answers(Service):
        framing = Lines(limit=9)
        switches = True

        def respond(self, message: bytes) -> bytes:
            return message

    with pytest.raises(TypeError, match=r"Answers: switches = True, but talk\(\) is not defined"):
        Answers()

    class Packed(Mail):
        framing = Compressed(limit=9)  # type: ignore[assignment]

    with pytest.raises(TypeError, match="Packed: switches = True: Compressed cannot decode one message at a time"):
        Packed()
    with pytest.raises(TypeError, match="SwitchFraming: Compressed cannot decode one message at a time"):
        SwitchFraming(b"", Compressed(limit=9))
    with pytest.raises(TypeError, match="SwitchFraming: a framing is expected, not bytes"):
        SwitchFraming(b"", b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Wait: a reply is expected, not SwitchFraming"):
        Wait(SwitchFraming(b"", Fixed(1)))  # type: ignore[arg-type]


def test_binding_with_another_framing_shares_the_service_and_the_cache() -> None:
    binding = ServiceBinding(Mail())
    other = binding.with_framing(Fixed(3))
    assert (other.service, other.cache, other.talks, other.plain) == (binding.service, binding.cache, True, False)
    assert (type(other.framing), other.encode) == (Fixed, None)
    for _ in range(3):
        conversation = SteppingConversation(binding.service, binding)
        conversation.open()
        assert conversation.receive(b"NOOP\n") == b"250 NOOP\n"
        assert conversation.receive(b"DATA\nNOOP\n\r\n.\r\n").endswith(b"250 10 bytes\n")
    assert not any((binding.cache.framed, binding.cache.single, binding.cache.replies))
