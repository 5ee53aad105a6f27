"""Replies in pieces are drawn as the peer takes them, in order, and closed at every ending."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daemons import Ending, LengthPrefixed, Talk
from daemons.framings import Decoder, Framing, Malformed
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.states import IDLE, OVER, PENDING
from tests.serving.services import SOME, Pieces, conversation
from tests.serving.tls_client import CUTS, Cut, Line

HALF = b"x" * (BATCH // 2)


def all_of(talk: Conversation, first: bytes) -> list[bytes]:
    """Return `reply` and the bytes of all further batches."""
    said = [first]
    while talk.state == PENDING:
        said.append(talk.proceed())
    return said


def test_pieces_are_drawn_in_batches_before_the_next_message_is_answered() -> None:
    drawn: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(5):
            drawn.append(number)
            yield HALF

    talk = conversation(respond=lambda line: pieces() if line == b"s\n" else line)
    assert talk.receive(b"a\ns\nb\n") == b"a\n" + HALF * 2
    assert (talk.state, drawn, talk.messages) == (PENDING, [0, 1], 2)
    assert talk.receive(b"c\n") == HALF * 2
    assert drawn == [0, 1, 2, 3]
    assert (talk.proceed(), talk.state, talk.messages) == (HALF + b"b\nc\n", IDLE, 4)


@pytest.mark.parametrize(
    "pieces",
    [[], [b"a"], [b"a", b"b"], [HALF] * 5, [b"a" * 3 * BATCH]],
    ids=["none", "one", "two", "five batches", "a long one"],
)
def test_reply_in_pieces_does_not_depend_on_how_the_input_is_cut(pieces: list[bytes]) -> None:
    talk = conversation(respond=lambda line: iter(pieces))
    for _ in range(3):  # the second time the framing is remembered
        assert b"".join(all_of(talk, talk.receive(b"a\n"))) == b"".join(pieces)
        assert talk.state == IDLE
    said = all_of(talk, talk.receive(b"a\na\nhalf"))
    said += all_of(talk, talk.receive(b""))
    assert b"".join(said) == b"".join(pieces) * 2
    assert (talk.ending, talk.messages, talk.failure) == (Ending.CUT, 5, None)


def test_input_may_end_while_a_greeting_is_drawn() -> None:
    def talking() -> Talk:
        yield iter([HALF] * 5)
        return None

    talk = conversation(talk=talking)
    assert b"".join((talk.open(), talk.receive(b""), *all_of(talk, b""))) == HALF * 5
    assert (talk.state, talk.ending) == (OVER, Ending.DONE)


def test_last_reply_of_a_talk_may_be_in_pieces() -> None:
    def talking() -> Talk:
        yield b""
        return iter([HALF] * 3)

    talk = conversation(talk=talking)
    talk.open()
    assert (talk.receive(b"a\nb\n"), talk.state) == (HALF * 2, PENDING)
    assert (talk.receive(b"c\n"), talk.ending, talk.messages) == (HALF, Ending.FINISHED, 1)


def test_empty_piece_ends_the_batch() -> None:
    talk = conversation(respond=lambda line: iter([b"a", b"", b"", b"b"]))
    assert all_of(talk, talk.receive(b"a\n")) == [b"a", b"", b"b"]


@pytest.mark.parametrize("state", ["under way", "over"])
def test_iterator_is_closed_at_its_end_and_when_the_conversation_is_closed(state: str) -> None:
    file = io.BytesIO(b"line\n" * (1 if state == "over" else BATCH))
    talk = conversation(respond=lambda line: file)
    talk.receive(b"a\n")
    assert file.closed is (state == "over")
    talk.close()
    assert file.closed
    assert talk.failure is None


def tidy(*, at_the_end: Callable[[], object]) -> Iterator[bytes]:
    try:
        while True:
            yield HALF
    finally:
        at_the_end()


def test_exception_in_close_of_the_iterator_is_a_failure() -> None:
    talk = conversation(respond=lambda line: tidy(at_the_end=lambda: 1 // 0))
    talk.receive(b"a\n")
    talk.close()
    assert (talk.ending, type(talk.failure)) == (Ending.FAILED, ZeroDivisionError)


@pytest.mark.parametrize("wrong", [RuntimeError("bug"), SystemExit(1), GeneratorExit(), "text", None, 3], ids=repr)
@pytest.mark.parametrize("before", [[], [b"half"], [HALF] * 3], ids=len)
def test_exception_in_the_iterator_ends_the_conversation_without_an_apology(before: list[bytes], wrong: Any) -> None:
    def failing() -> Iterator[Any]:
        yield from before
        if isinstance(wrong, BaseException):
            raise wrong
        yield wrong

    talk = conversation(respond=lambda line: failing())
    assert b"".join(all_of(talk, talk.receive(b"a\nb\n"))) == b"".join(before)
    assert (talk.state, talk.ending, talk.messages) == (OVER, Ending.FAILED, 1)
    if isinstance(wrong, BaseException):
        assert talk.failure is wrong
    else:
        kind = "None" if wrong is None else type(wrong).__name__
        assert str(talk.failure).startswith(f"a reply of Made in pieces yielded {kind}; bytes are expected")
    talk.close()


def test_reply_in_pieces_is_a_failure_if_the_framing_encodes_replies() -> None:
    talk = conversation(respond=lambda line: iter([b"a"]), framing=LengthPrefixed(limit=9))
    assert (talk.receive(b"\0\0\0\1a"), talk.ending) == (b"sorry\n", Ending.FAILED)
    assert str(talk.failure) == "Made replied in pieces; bytes are expected, which LengthPrefixed frames as a whole"


def test_framing_error_may_have_its_own_apology() -> None:
    class Strict(Framing):
        def decoder(self) -> Decoder:
            decoder = LengthPrefixed(limit=9).decoder()
            decoder.error = Malformed("no")
            decoder.error.apology = b"400\n"
            return decoder

    talk = conversation(respond=lambda line: line, framing=Strict())
    assert (talk.receive(b"a"), talk.ending) == (b"400\n", Ending.MALFORMED)


@pytest.mark.parametrize("cut", CUTS.values(), ids=list(CUTS))
def test_pieces_are_drawn_as_they_are_encrypted_over_tls(cut: Cut) -> None:
    line = Line(Pieces(), cut=cut).shake()
    line.say(b"some\na\n")
    assert line.heard == b"x" * SOME + b"a\n"
    assert line.largest < 4 * BATCH
    line.say(b"fail\n")
    assert (line.heard[-4:], line.ours.ending) == (b"half", Ending.FAILED)


def test_pieces_are_drawn_in_batches_behind_a_proxy() -> None:
    talk = ProxiedConversation(Conversation(Pieces()), lambda header: None)
    said = all_of(talk, talk.receive(b"PROXY UNKNOWN\r\nsome\na\n"))
    assert b"".join(said) == b"x" * SOME + b"a\n"
    assert (talk.state, talk.messages) == (IDLE, 2)
