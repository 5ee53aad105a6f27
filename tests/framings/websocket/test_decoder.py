"""`WebSocket` and its decoder: frames and messages, refusals at the first wrong byte, limits and memory."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemons import Service
from daemons.framings import FramingError, Incomplete, Malformed, Oversize
from daemons.framings.websocket import Close, Control, Encoded, Ping, Pong, Text, WebSocket
from daemons.framings.websocket.framing import FRAGMENTS
from daemons.framings.websocket.masking import LANES, apply_mask, rotate
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import OVER
from tests.framings.websocket.frames import MASK, code_of, cut, found, frame, octets_of

SERVER = WebSocket(limit=1000)
CLIENT = WebSocket(limit=100_000, client=True, new_mask=lambda: MASK)

#: The examples of RFC 6455, section 5.7: which side receives them, the bytes, and the message.
EXAMPLES: dict[str, tuple[WebSocket, bytes, bytes]] = {
    "unmasked text": (CLIENT, bytes.fromhex("8105 48656c6c6f"), Text("Hello")),
    "masked text": (SERVER, bytes.fromhex("8185 37fa213d 7f9f4d5158"), Text("Hello")),
    "fragments": (CLIENT, bytes.fromhex("0103 48656c 8002 6c6f"), Text("Hello")),
    "unmasked Ping": (CLIENT, bytes.fromhex("8905 48656c6c6f"), Ping(b"Hello")),
    "masked Pong": (SERVER, bytes.fromhex("8a85 37fa213d 7f9f4d5158"), Pong(b"Hello")),
    "256 bytes": (CLIENT, bytes.fromhex("827e 0100") + bytes(range(256)), bytes(range(256))),
    "64 KiB": (CLIENT, bytes.fromhex("827f 0000000000010000") + bytes(65536), bytes(65536)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_the_rfc(name: str) -> None:
    framing, data, message = EXAMPLES[name]
    for pieces in ([data], octets_of(data) if len(data) < 1000 else cut(data, range(0, len(data), 997))):
        decoder = framing.decoder()
        messages = [each for piece in pieces for each in decoder.decode(piece)]
        assert messages == [message]
        assert [type(each) for each in messages] == [type(message)]
        assert (decoder.error, decoder.pending) == (None, False)
    if name != "fragments":
        other = SERVER if framing is CLIENT else CLIENT
        assert other.encode(message) == data


MESSAGES = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=80).map(Text),
    st.binary(max_size=125).map(Ping),
    st.binary(max_size=125).map(Pong),
)


@settings(max_examples=60)
@given(messages=st.lists(MESSAGES, max_size=5), cuts=st.lists(st.integers(0, 10_000), max_size=8))
@example(messages=[b"a" * size for size in (124, 125, 126, 127, 128, 1000)], cuts=[1, 3])
def test_what_one_side_encodes_the_other_decodes(messages: list[bytes], cuts: list[int]) -> None:
    for sender, receiver in ((SERVER, CLIENT), (CLIENT, SERVER)):
        data = b"".join(map(sender.encode, messages))
        decoder = receiver.decoder()
        decoded = [message for piece in cut(data, cuts) for message in decoder.decode(piece)]
        assert decoded == messages
        assert [type(message) for message in decoded] == [type(message) for message in messages]
        assert (decoder.error, decoder.pending) == (None, False)


@settings(max_examples=60)
@given(
    text=st.text(max_size=60),
    at=st.lists(st.integers(0, 60), max_size=4),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_control_frames_between_fragments_are_delivered_at_once(text: str, at: list[int], cuts: list[int]) -> None:
    """The text is split anywhere, also within a character."""
    octets = text.encode()
    parts = cut(octets, at) or [b""]
    data, pings = bytearray(), []
    for number, part in enumerate(parts):
        data += frame(0 if number else 1, part, final=number == len(parts) - 1)
        if number < len(parts) - 1:
            pings.append(b"%d" % number)
            data += frame(9, pings[-1])
    expected = [*(("ping", ping) for ping in pings), ("text", octets)]
    assert found(SERVER, cut(bytes(data), cuts)) == (expected, None, False)
    assert found(SERVER, octets_of(bytes(data))) == (expected, None, False)


def refused(data: bytes, framing: WebSocket = SERVER) -> tuple[FramingError, int]:
    """The error of `data`, however it is cut, and the number of bytes after which it is set."""
    errors: list[FramingError] = []
    for pieces in ([data], cut(data, [1, 5, 9]), octets_of(data)):
        decoder = framing.decoder()
        size = 0
        while decoder.error is None:
            decoder.decode(pieces[size])
            size += 1
        errors.append(decoder.error)
        assert decoder.error.__traceback__ is None
        assert not decoder.pending
        assert decoder.decode(frame(1, b"later")) == ()
        assert decoder.finish() == ()
    assert len({(type(error), str(error), error.apology) for error in errors}) == 1
    return errors[0], size


#: A frame, the bytes after which it is refused, the code of the Close, and the text for the log.
REFUSED: dict[str, tuple[bytes, int, int, str]] = {
    "no mask": (frame(1, b"a", mask=None), 2, 1002, "a frame without a mask from a client"),
    "reserved bit 1": (frame(1, b"a", reserved=4), 1, 1002, "a reserved bit is set; no extension was accepted"),
    "reserved bit 3": (frame(9, reserved=1), 1, 1002, "a reserved bit is set; no extension was accepted"),
    "opcode 3": (frame(3), 1, 1002, "the opcode 0x3 is reserved; no extension was accepted"),
    "opcode 15": (frame(15), 1, 1002, "the opcode 0xf is reserved; no extension was accepted"),
    "Ping in fragments": (frame(9, final=False), 1, 1002, "a control frame in fragments; one frame is expected"),
    "Close in fragments": (frame(8, final=False), 1, 1002, "a control frame in fragments; one frame is expected"),
    "long Ping": (frame(9, bytes(126)), 2, 1002, "a control frame of more than 125 bytes"),
    "continuation of nothing": (
        frame(0, b"a"),
        1,
        1002,
        "a frame continues a message where one that begins a message is expected",
    ),
    "text within text": (
        frame(1, b"a", final=False) + frame(1, b"b"),
        8,
        1002,
        "a frame begins a message where one that continues a message is expected",
    ),
    "16 bits for 125": (frame(2, bytes(125), size=2), 4, 1002, "the length 125 in 2 bytes; fewer are expected"),
    "64 bits for 65535": (
        frame(2, length=65535, size=8),
        10,
        1002,
        "the length 65535 in 8 bytes; fewer are expected",
    ),
    "64 bits for 0": (frame(2, size=8), 10, 1002, "the length 0 in 8 bytes; fewer are expected"),
    "bit 63": (frame(2, length=1 << 63), 10, 1002, "a length of 64 bits; at most 63 are expected"),
    "longest length": (
        frame(2, length=(1 << 63) - 1),
        10,
        1009,
        "a message of 9223372036854775807 bytes or more; 1000 are allowed",
    ),
    "beyond the limit": (frame(2, bytes(1001)), 4, 1009, "a message of 1001 bytes or more; 1000 are allowed"),
    "beyond the limit in fragments": (
        frame(2, bytes(999), final=False) + frame(0, b"ab"),
        8 + 999 + 2,
        1009,
        "a message of 1001 bytes or more; 1000 are allowed",
    ),
    "Close of one byte": (
        frame(8, b"\x03"),
        7,
        1002,
        "a Close of one byte; none, or a code of two bytes, is expected",
    ),
    "Close with code 1005": (frame(8, b"\x03\xed"), 8, 1002, "a Close with code 1005, which must not be sent"),
    "reason in Latin-1": (frame(8, b"\x03\xe8\xe9"), 9, 1007, "the reason of a Close is not UTF-8"),
    "reason cut within a character": (frame(8, b"\x03\xe8\xc3"), 9, 1007, "the reason of a Close is not UTF-8"),
    "text in Latin-1": (frame(1, b"caf\xe9 au lait"), 6 + 5, 1007, "a text message is not UTF-8"),
    "text cut within a character": (frame(1, b"caf\xc3"), 6 + 4, 1007, "a text message is not UTF-8"),
    "a character cut by the end": (
        frame(1, b"\xe2", final=False) + frame(9) + frame(0, b"\x82"),
        7 + 6 + 7,
        1007,
        "a text message is not UTF-8",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_frame_is_refused_at_the_first_wrong_byte(name: str) -> None:
    data, size, code, text = REFUSED[name]
    error, count = refused(data)
    assert (str(error), code_of(error), count) == (text, code, size)
    assert type(error) is (Oversize if code == 1009 else Malformed)


def test_masked_frame_is_refused_by_a_client_and_its_close_is_masked() -> None:
    error, count = refused(frame(1, b"a"), CLIENT)
    assert (str(error), count) == ("a masked frame from a server", 2)
    assert found(SERVER, [error.apology]) == ([("close", b"\x03\xea")], None, True)


def test_messages_before_an_error_are_delivered() -> None:
    messages, error, _ = found(SERVER, [frame(1, b"good") + frame(9, b"p") + frame(3)])
    assert messages == [("text", b"good"), ("ping", b"p")]
    assert code_of(error) == 1002


def test_close_ends_the_input_and_a_message_in_progress() -> None:
    data = frame(1, b"never ", final=False) + frame(8, b"\x03\xe9going")
    for pieces in ([data], octets_of(data)):
        decoder = SERVER.decoder()
        (close,) = [each for piece in pieces for each in decoder.decode(piece)]
        assert isinstance(close, Close)
        assert (close.code, close.reason) == (1001, "going")
        assert (decoder.ended, decoder.surplus, decoder.pending, decoder.error) == (True, False, False, None)
        assert decoder.decode(frame(3)) == ()
        assert (decoder.surplus, decoder.error, decoder.finish()) == (True, None, ())
    decoder = SERVER.decoder()
    assert decoder.decode(data + frame(0, b"complete"))
    assert decoder.surplus


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x81", "socket closed within a frame"),
        (frame(1, b"abc")[:6], "socket closed 0 bytes into a message"),
        (frame(1, b"abc")[:-1], "socket closed 2 bytes into a message"),
        (frame(1, b"abc", final=False), "socket closed 3 bytes into a message"),
        (frame(9, b"abc")[:-1], "socket closed within a frame"),
    ],
)
def test_the_end_within_a_message_is_an_error(data: bytes, text: str) -> None:
    decoder = SERVER.decoder()
    assert decoder.decode(data) == []
    assert decoder.pending
    assert decoder.finish() == ()
    assert isinstance(decoder.error, Incomplete)
    assert (str(decoder.error), decoder.pending, decoder.error.apology) == (text, False, b"")


def test_many_fragments_must_not_be_short_on_average() -> None:
    framing = WebSocket(limit=1 << 20)
    nothing = frame(0, final=False)
    decoder = framing.decoder()
    assert decoder.decode(frame(2, final=False) + nothing * (FRAGMENTS - 1)) == []
    assert decoder.pending
    assert decoder.buffered == 0, "fragments without a payload take no memory"
    decoder.decode(nothing)
    assert isinstance(decoder.error, Oversize)
    assert code_of(decoder.error) == 1009
    # Each message counts for itself.
    message = frame(2, final=False) + nothing * (FRAGMENTS - 2) + frame(0)
    assert found(framing, [message, message]) == ([("binary", b"")] * 2, None, False)
    # Fragments of 64 bytes are not too short, as many as the limit allows.
    long = frame(2, bytes(64), final=False) + frame(0, bytes(64), final=False) * ((1 << 14) - 2) + frame(0, bytes(64))
    assert found(framing, [long]) == ([("binary", bytes(1 << 20))], None, False)


def test_an_announced_length_takes_no_memory() -> None:
    decoder = WebSocket(limit=1 << 62).decoder()
    tracemalloc.start()
    try:
        decoder.decode(frame(2, length=1 << 62) + b"abc")
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    assert decoder.pending


@settings(max_examples=40)
@given(
    size=st.sampled_from([0, 1, 2, 3, 4, 5, 125, 126, LANES - 1, LANES, LANES + 3, 5000, 70_001]),
    mask=st.binary(min_size=4, max_size=4),
    start=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_masking_is_the_exclusive_or_of_each_byte(size: int, mask: bytes, start: int, seed: int) -> None:
    data = random.Random(seed).randbytes(size)
    expected = bytes(byte ^ other for byte, other in zip(data, itertools.cycle(mask), strict=False))
    for source in (b"x" * start + data + b"yz", bytearray(b"x" * start + data + b"yz")):
        assert apply_mask(source, start, start + size, mask) == expected
    start = min(start, size)
    assert apply_mask(data, start, size, rotate(mask, start)) == expected[start:]


def test_frames_encoded_in_advance_are_sent_unchanged_by_a_server() -> None:
    once = Encoded(SERVER.encode(Text("to many")))
    assert SERVER.encode(once) == once
    assert SERVER.encode(Encoded()) == b""
    assert CLIENT.encode(Encoded()) == b""
    with pytest.raises(ValueError, match="a client is expected to mask each frame anew"):
        CLIENT.encode(once)


def test_each_frame_of_a_client_has_a_mask_of_its_own() -> None:
    framing = WebSocket(limit=1, client=True)
    assert len({framing.encode(b"a")[2:6] for _ in range(20)}) > 15


def test_messages_have_the_types_and_values_of_the_protocol() -> None:
    assert (Text("naïve"), Text("naïve").text) == (b"na\xc3\xafve", "naïve")
    assert (Close(), Close(None), Close(3000, "é")) == (b"\x03\xe8", b"", b"\x0b\xb8\xc3\xa9")
    assert (Close(None).code, Close(None).reason) == (None, "")
    assert Ping(b"a" * 125).reply() == Pong(b"a" * 125)
    assert isinstance(Ping(b"a").reply(), Pong)
    assert (Pong(b"a").reply(), Close(1001, "away").reply(), Close(None).reply()) == (b"", Close(1001), Close(None))
    shown = repr([Text("é"), b"a", Ping(b"b"), Pong(), Close(), Close(3000, "c"), Close(None), Encoded(b"d")])
    assert (
        shown == "[Text('é'), b'a', Ping(b'b'), Pong(b''), Close(1000), Close(3000, 'c'), Close(None), Encoded(b'd')]"
    )
    for wrong in (lambda: Ping(bytes(126)), lambda: Pong(bytes(126)), lambda: Close(1000, "a" * 124)):
        with pytest.raises(ValueError, match="a payload of 126 bytes; at most 125 are expected"):
            wrong()
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536):
        with pytest.raises(ValueError, match=f"Close: code {code}; 1000 to 1003"):
            Close(code)
    with pytest.raises(ValueError, match="a reason without a code"):
        Close(None, "why")
    with pytest.raises(UnicodeEncodeError):
        Text("\ud800")
    with pytest.raises(ValueError, match="WebSocket: limit=0; 1 or more is expected"):
        WebSocket(limit=0)


class Echo(Service):
    """Sends each message back; its author sees no control frame."""

    framing = WebSocket(limit=1000)

    def respond(self, message: bytes) -> bytes:
        return message.reply() if isinstance(message, Control) else message


def test_conversation_answers_control_frames_and_ends_with_the_closing_handshake() -> None:
    data = (
        frame(1, b"one", final=False)
        + frame(9, b"still there?")
        + frame(10, b"unasked")
        + frame(0, b" two")
        + frame(2, b"\xff")
    )
    close = frame(8, b"\x0b\xb8bye")
    expected = b"".join(map(Echo.framing.encode, (Pong(b"still there?"), Text("one two"), b"\xff")))
    for pieces in ([data], octets_of(data)):
        conversation = Conversation(Echo())
        sent = b"".join(conversation.receive(piece) for piece in pieces)
        assert sent == expected
        assert conversation.receive(close) == Echo.framing.encode(Close(3000))
        assert (conversation.state, conversation.ending) == (OVER, Ending.DONE)


@pytest.mark.parametrize(
    ("data", "code", "ending"),
    [
        (frame(1, b"\xff"), 1007, Ending.MALFORMED),
        (frame(1, b"a", mask=None), 1002, Ending.MALFORMED),
        (frame(1, bytes(1001)), 1009, Ending.OVERSIZE),
    ],
)
def test_conversation_with_an_error_ends_with_a_close_after_the_replies(data: bytes, code: int, ending: Ending) -> None:
    conversation = Conversation(Echo())
    sent = conversation.receive(frame(1, b"good") + data)
    assert found(CLIENT, [sent]) == ([("text", b"good"), ("close", code.to_bytes(2, "big"))], None, True)
    assert (conversation.state, conversation.ending) == (OVER, ending)
