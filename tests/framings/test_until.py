"""Until: a message lasts until its delimiter, however the octets are cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.framings import FramingError, Incomplete, Oversize, Until

#: (framing, the pieces that come, the messages they make, whether something is held after them)
CASES: dict[str, tuple[Until, list[bytes], list[bytes], bool]] = {
    "one message in one piece": (Until(b"?", limit=9), [b"what?"], [b"what?"], False),
    "two in one piece": (Until(b"?", limit=9), [b"how?what?"], [b"how?", b"what?"], False),
    "one in many pieces": (Until(b"?", limit=9), [b"w", b"ha", b"t", b"?"], [b"what?"], False),
    "the rest is held": (Until(b"?", limit=9), [b"how?wh"], [b"how?"], True),
    "and continued": (Until(b"?", limit=9), [b"how?wh", b"at?"], [b"how?", b"what?"], False),
    "nothing": (Until(b"?", limit=9), [b"", b""], [], False),
    "nothing, in mid-message": (Until(b"?", limit=9), [b"wh", b"", b"at?"], [b"what?"], False),
    "only delimiters": (Until(b"?", limit=9), [b"???"], [b"?", b"?", b"?"], False),
    "as long as allowed": (Until(b"?", limit=5), [b"what?", b"wh", b"en?"], [b"what?", b"when?"], False),
    "as long as allowed, among others": (Until(b"?", limit=5), [b"a?what?b?"], [b"a?", b"what?", b"b?"], False),
    "a limit of one delimiter": (Until(b"?", limit=1), [b"??", b"?"], [b"?", b"?", b"?"], False),
    "a long delimiter": (Until(b"\r\n", limit=9), [b"a\r\nb\r\n"], [b"a\r\n", b"b\r\n"], False),
    "a long delimiter cut in two": (Until(b"\r\n", limit=9), [b"a\r", b"\nb\r", b"\n"], [b"a\r\n", b"b\r\n"], False),
    "half a delimiter is no delimiter": (Until(b"\r\n", limit=9), [b"a\rb\nc\r"], [], True),
    "half a delimiter before a whole one": (Until(b"\r\n", limit=9), [b"\r", b"\r", b"\n"], [b"\r\r\n"], False),
    "the last half-message is short": (Until(b"\r\n", limit=9), [b"\r"], [], True),
    "a delimiter that overlaps itself": (Until(b"aa", limit=9), [b"aaa", b"a"], [b"aa", b"aa"], False),
    "a delimiter of NULs": (Until(b"\0\0", limit=9), [b"\0", b"\0\0"], [b"\0\0"], True),
    "skipped before": (Until(b"?", limit=9, skip=b"\r\n"), [b"\r\nwhat?"], [b"what?"], False),
    "skipped between": (Until(b"?", limit=9, skip=b"\r\n"), [b"how?\n\r\nwhat?"], [b"how?", b"what?"], False),
    "skipped after": (Until(b"?", limit=9, skip=b"\r\n"), [b"what?\r", b"\n", b"\n"], [b"what?"], False),
    "skipped in pieces": (Until(b"?", limit=9, skip=b"\r\n"), [b"\r", b"\n", b"wh", b"at?"], [b"what?"], False),
    "not skipped within": (Until(b"?", limit=9, skip=b"\r\n"), [b"wh\r\nat?"], [b"wh\r\nat?"], False),
    "not skipped within, at a cut": (Until(b"?", limit=9, skip=b"\r\n"), [b"wh", b"\r\nat?"], [b"wh\r\nat?"], False),
    "skipped octets do not count": (Until(b"?", limit=5, skip=b"\n"), [b"\n" * 9, b"\n\nwhat?"], [b"what?"], False),
    "only skipped": (Until(b"?", limit=2, skip=b"\n"), [b"\n\n\n", b"\n"], [], False),
}

#: (framing, the pieces that come, the messages before the one that is too long)
OVERSIZE: dict[str, tuple[Until, list[bytes], list[bytes]]] = {
    "one octet too long": (Until(b"?", limit=5), [b"whats?"], []),
    "as long, without the delimiter": (Until(b"?", limit=5), [b"whats"], []),
    "in pieces": (Until(b"?", limit=5), [b"wh", b"at", b"s"], []),
    "after a good one, in the same piece": (Until(b"?", limit=5), [b"how?whats?"], [b"how?"]),
    "after a good one, in another piece": (Until(b"?", limit=5), [b"how?", b"what", b"s?"], [b"how?"]),
    "before a good one": (Until(b"?", limit=5), [b"whatever?how?"], []),
    "half a delimiter at the limit": (Until(b"\r\n", limit=3), [b"ab\r"], []),
    "a great deal at once": (Until(b"?", limit=5), [b"a" * 100_000], []),
    "skipped, but too long all the same": (Until(b"?", limit=5, skip=b"\n"), [b"\n\nwhats?"], []),
}


@pytest.mark.parametrize(("framing", "pieces", "messages", "pending"), CASES.values(), ids=CASES)
def test_messages(framing: Until, pieces: list[bytes], messages: list[bytes], pending: bool) -> None:
    decoder = framing.decoder()
    assert [message for piece in pieces for message in decoder.decode(piece)] == messages
    assert decoder.pending is pending
    assert decoder.error is None


@pytest.mark.parametrize(("framing", "pieces", "messages"), OVERSIZE.values(), ids=OVERSIZE)
def test_too_long_is_refused_after_the_messages_before_it(
    framing: Until, pieces: list[bytes], messages: list[bytes]
) -> None:
    decoder = framing.decoder()
    assert [message for piece in pieces for message in decoder.decode(piece)] == messages
    assert isinstance(decoder.error, Oversize)


def test_after_an_error_everything_is_ignored_and_nothing_is_held() -> None:
    decoder = Until(b"?", limit=2).decoder()
    decoder.decode(b"what?")
    error = decoder.error
    assert list(decoder.decode(b"?")) == []
    assert list(decoder.finish()) == []
    assert not decoder.pending
    assert decoder.error is error


def test_the_end_of_the_input_between_messages_is_no_error() -> None:
    decoder = Until(b"?", limit=9, skip=b"\n").decoder()
    decoder.decode(b"what?\n")
    assert list(decoder.finish()) == []
    assert decoder.error is None


def test_a_message_cut_short_is_an_error_and_never_a_message() -> None:
    decoder = Until(b"?", limit=9).decoder()
    decoder.decode(b"how?what")
    assert list(decoder.finish()) == []
    assert isinstance(decoder.error, Incomplete)


def test_each_connection_has_a_decoder_of_its_own() -> None:
    framing = Until(b"?", limit=9)
    one, other = framing.decoder(), framing.decoder()
    one.decode(b"ho")
    assert list(other.decode(b"at?")) == [b"at?"]
    assert list(one.decode(b"w?")) == [b"how?"]


def test_a_message_in_a_hundred_thousand_pieces_is_one_message() -> None:
    octets = 100_000
    decoder = Until(b"\r\n", limit=octets).decoder()
    for _ in range(octets - 2):
        decoder.decode(b"\r")  # the first half of the delimiter, each time: the worst there is
    (message,) = [*decoder.decode(b"\n")]
    assert len(message) == octets - 1


@pytest.mark.parametrize(
    ("delimiter", "limit", "skip", "complaint"),
    [
        (b"", 10, b"", "Until: the delimiter is empty; one byte or more is expected"),
        (b"?", 0, b"", "Until: limit=0 is shorter than the delimiter b'?'"),
        (b"?", -1, b"", "Until: limit=-1 is shorter than the delimiter b'?'"),
        (b"\r\n", 1, b"", "Until: limit=1 is shorter than the delimiter b'\\r\\n'"),
        (b"\n", 10, b"\r\n", "Until: skip=b'\\r\\n' would swallow the delimiter b'\\n'"),
        (b"\r\n", 10, b"\r", "Until: skip=b'\\r' would swallow the delimiter b'\\r\\n'"),
    ],
)
def test_arguments_that_could_never_frame_anything(delimiter: bytes, limit: int, skip: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        Until(delimiter, limit=limit, skip=skip)


def test_the_limit_must_be_named_and_has_no_default() -> None:
    with pytest.raises(TypeError, match="limit"):
        Until(b"?")  # type: ignore[call-arg]


def test_a_reply_is_sent_as_it_is() -> None:
    assert Until(b"?", limit=9).encode(b"any?thing\0") == b"any?thing\0"


def test_it_shows_itself_as_it_is_written() -> None:
    assert repr(Until(b"?", limit=9, skip=b"\n")) == "Until(b'?', limit=9, skip=b'\\n')"


# --- for any bytes, cut anywhere -------------------------------------------------------------------

#: Few letters, so that delimiters, halves of them and skipped octets come often.
OCTETS = st.binary(max_size=40) | st.text("ab\r\n?", max_size=40).map(str.encode)


@st.composite
def framings(draw: st.DrawFn) -> Until:
    delimiter = draw(st.sampled_from([b"?", b"\r\n", b"aa", b"aba", b"\n\n"]) | st.binary(min_size=1, max_size=3))
    skip = draw(st.sampled_from([b"", b"\r\n", b" ", b"ab\n"])).translate(None, delete=delimiter[:1])
    return Until(delimiter, limit=draw(st.integers(len(delimiter), 20)), skip=skip)


def by_the_book(framing: Until, data: bytes) -> tuple[list[bytes], type[FramingError] | None]:
    """The messages in `data`, and the error at its end: the definition, an octet at a time."""
    messages, message = [], b""
    for octet in data:
        if message or octet not in framing.skip:
            message += bytes((octet,))
        if message.endswith(framing.delimiter):
            messages.append(message)
            message = b""
        elif len(message) >= framing.limit:
            return messages, Oversize
    return messages, Incomplete if message else None


def decoded(framing: Until, pieces: Sequence[bytes]) -> tuple[list[bytes], type[FramingError] | None]:
    decoder = framing.decoder()
    messages = [message for piece in pieces for message in decoder.decode(piece)]
    messages += decoder.finish()
    return messages, None if decoder.error is None else type(decoder.error)


@given(framings(), st.lists(OCTETS, max_size=8))
def test_any_octets_in_any_pieces_make_the_same_messages_and_the_same_error(
    framing: Until, pieces: list[bytes]
) -> None:
    data = b"".join(pieces)
    expected = by_the_book(framing, data)
    assert decoded(framing, pieces) == expected
    assert decoded(framing, [data]) == expected
    assert decoded(framing, [data[at : at + 1] for at in range(len(data))]) == expected


@given(framings(), st.lists(OCTETS, max_size=8))
def test_any_message_ends_with_its_delimiter_holds_no_other_and_keeps_to_the_limit(
    framing: Until, pieces: list[bytes]
) -> None:
    for message in decoded(framing, pieces)[0]:
        assert message.find(framing.delimiter) == len(message) - len(framing.delimiter)
        assert len(message) <= framing.limit
        assert message[0] not in framing.skip


@given(framings(), st.lists(OCTETS, max_size=8))
def test_held_bytes_never_reach_the_limit(framing: Until, pieces: list[bytes]) -> None:
    decoder = framing.decoder()
    for piece in pieces:
        decoder.decode(piece)
        assert len(decoder._held) < framing.limit
        assert decoder.pending is bool(decoder._held)
