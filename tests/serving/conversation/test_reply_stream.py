"""Replies in pieces: drawn as the peer takes them, one after the other, and put away however it ends."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daemons import Ending, LengthPrefixed, Talk
from daemons.framings import Decoder, Framing, Malformed
from daemons.serving.conversation.conversation import IDLE, OVER, PENDING, Conversation
from daemons.serving.conversation.proxy import ProxiedConversation
from daemons.serving.conversation.reply_stream import BATCH
from tests.serving.services import SOME, Pieces, conversation
from tests.serving.tls_client import CUTS, Cut, Line

HALF = b"x" * (BATCH // 2)


def all_of(talk: Conversation, first: bytes) -> list[bytes]:
    """What was said, and is said until nothing is left to be said."""
    said = [first]
    while talk.state == PENDING:
        said.append(talk.proceed())
    return said


def test_pieces_are_drawn_a_batch_at_a_time_and_the_next_message_waits_for_the_last() -> None:
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
def test_whether_it_comes_alone_or_again_or_at_the_end_of_the_input(pieces: list[bytes]) -> None:
    talk = conversation(respond=lambda line: iter(pieces))
    for _ in range(3):  # the second time the framing is remembered
        assert b"".join(all_of(talk, talk.receive(b"a\n"))) == b"".join(pieces)
        assert talk.state == IDLE
    said = all_of(talk, talk.receive(b"a\na\nhalf"))
    said += all_of(talk, talk.receive(b""))
    assert b"".join(said) == b"".join(pieces) * 2
    assert (talk.ending, talk.messages, talk.failure) == (Ending.CUT, 5, None)


def test_the_input_may_end_while_a_greeting_is_drawn() -> None:
    def talking() -> Talk:
        yield iter([HALF] * 5)
        return None

    talk = conversation(talk=talking)
    assert b"".join((talk.open(), talk.receive(b""), *all_of(talk, b""))) == HALF * 5
    assert (talk.state, talk.ending) == (OVER, Ending.DONE)


def test_the_last_words_of_a_talk_may_come_in_pieces() -> None:
    def talking() -> Talk:
        yield b""
        return iter([HALF] * 3)

    talk = conversation(talk=talking)
    talk.open()
    assert (talk.receive(b"a\nb\n"), talk.state) == (HALF * 2, PENDING)
    assert (talk.receive(b"c\n"), talk.ending, talk.messages) == (HALF, Ending.FINISHED, 1)


def test_a_piece_of_nothing_lets_the_others_have_their_turn() -> None:
    talk = conversation(respond=lambda line: iter([b"a", b"", b"", b"b"]))
    assert all_of(talk, talk.receive(b"a\n")) == [b"a", b"", b"b"]


@pytest.mark.parametrize("state", ["under way", "over"])
def test_it_is_closed_at_its_end_and_when_the_visitor_leaves(state: str) -> None:
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


def test_a_failure_in_putting_it_away_is_a_failure() -> None:
    talk = conversation(respond=lambda line: tidy(at_the_end=lambda: 1 // 0))
    talk.receive(b"a\n")
    talk.close()
    assert (talk.ending, type(talk.failure)) == (Ending.FAILED, ZeroDivisionError)


@pytest.mark.parametrize("wrong", [RuntimeError("bug"), SystemExit(1), GeneratorExit(), "text", None, 3], ids=repr)
@pytest.mark.parametrize("before", [[], [b"half"], [HALF] * 3], ids=len)
def test_a_failure_in_the_middle_ends_it_without_an_apology(before: list[bytes], wrong: Any) -> None:
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


def test_a_framing_that_frames_replies_has_no_use_for_pieces() -> None:
    talk = conversation(respond=lambda line: iter([b"a"]), framing=LengthPrefixed(limit=9))
    assert (talk.receive(b"\0\0\0\1a"), talk.ending) == (b"sorry\n", Ending.FAILED)
    assert str(talk.failure) == "Made replied in pieces; bytes are expected, which LengthPrefixed frames as a whole"


def test_an_error_of_a_framing_may_bring_its_own_apology() -> None:
    class Strict(Framing):
        def decoder(self) -> Decoder:
            decoder = LengthPrefixed(limit=9).decoder()
            decoder.error = Malformed("no")
            decoder.error.apology = b"400\n"
            return decoder

    talk = conversation(respond=lambda line: line, framing=Strict())
    assert (talk.receive(b"a"), talk.ending) == (b"400\n", Ending.MALFORMED)


@pytest.mark.parametrize("cut", CUTS.values(), ids=list(CUTS))
def test_over_tls_pieces_are_drawn_as_they_are_encrypted(cut: Cut) -> None:
    line = Line(Pieces(), cut=cut).shake()
    line.say(b"some\na\n")
    assert line.heard == b"x" * SOME + b"a\n"
    assert line.largest < 4 * BATCH
    line.say(b"fail\n")
    assert (line.heard[-4:], line.ours.ending) == (b"half", Ending.FAILED)


def test_behind_a_proxy_too() -> None:
    talk = ProxiedConversation(Conversation(Pieces()), lambda header: None)
    said = all_of(talk, talk.receive(b"PROXY UNKNOWN\r\nsome\na\n"))
    assert b"".join(said) == b"x" * SOME + b"a\n"
    assert (talk.state, talk.messages) == (IDLE, 2)
