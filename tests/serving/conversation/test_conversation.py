"""Conversations without sockets: bytes in, bytes and possibly an ending out."""

from __future__ import annotations

import pytest

from daemons import Ending, Peer, Talk
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.reply_stream import BATCH
from daemons.serving.conversation.states import IDLE, OVER, PARTIAL, PENDING
from tests.serving.services import Echo, Polite, conversation


def test_state_follows_input() -> None:
    talk = Conversation(Echo())
    assert (talk.open(), talk.state, talk.ending) == (b"", IDLE, None)
    assert (talk.receive(b"hal"), talk.state, talk.messages) == (b"", PARTIAL, 0)
    assert (talk.receive(b"f\n"), talk.state, talk.messages) == (b"half\n", IDLE, 1)
    assert (talk.receive(b"1\n2\n3"), talk.state, talk.messages) == (b"1\n2\n", PARTIAL, 3)
    assert (talk.receive(b"\n"), talk.state, talk.messages) == (b"3\n", IDLE, 4)
    assert (talk.receive(b""), talk.state, talk.ending) == (b"", OVER, Ending.DONE)


def test_input_after_the_end_is_ignored() -> None:
    talk = Conversation(Echo())
    talk.receive(b"")
    assert (talk.receive(b"a\n"), talk.proceed(), talk.receive(b""), talk.messages) == (b"", b"", b"", 0)
    assert talk.ending is Ending.DONE


def test_incomplete_message_is_not_processed_and_gets_no_apology() -> None:
    executed: list[bytes] = []
    talk = conversation(respond=executed.append)
    assert talk.receive(b"half") == b""
    assert (talk.receive(b""), talk.ending, executed) == (b"", Ending.CUT, [])


def test_messages_before_an_oversize_one_are_answered_before_the_apology() -> None:
    talk = conversation(respond=lambda line: line, apology=lambda ending: ending.value.encode())
    assert talk.receive(b"a\nb\n" + b"c" * 64 + b"\nd\n") == b"a\nb\noversize"
    assert (talk.state, talk.ending, talk.messages, talk.failure) == (OVER, Ending.OVERSIZE, 2, None)


def test_talk_sends_a_greeting_keeps_state_and_returns_a_last_reply() -> None:
    talk, other = Conversation(Polite()), Conversation(Polite())
    assert talk.open() == b"hello\n"
    assert talk.receive(b"a\nb\n") == b"1\n2\n"
    assert (other.open(), other.receive(b"a\n")) == (b"hello\n", b"1\n")
    assert talk.receive(b"bye\nnot heard\n") == b"goodbye\n"
    assert (talk.state, talk.ending, talk.messages) == (OVER, Ending.FINISHED, 3)


def test_talk_may_yield_no_reply() -> None:
    def silent() -> Talk:
        yield None
        yield None
        yield b"at last\n"
        return None

    talk = conversation(talk=silent)
    assert (talk.open(), talk.receive(b"a\n"), talk.receive(b"b\n")) == (b"", b"", b"at last\n")
    assert (talk.receive(b"c\n"), talk.ending) == (b"", Ending.FINISHED)


def test_talk_that_was_not_opened_begins_with_the_first_input() -> None:
    talk = Conversation(Polite())
    assert (talk.receive(b"a\nb"), talk.receive(b"\n")) == (b"hello\n1\n", b"2\n")
    silent = Conversation(Polite())
    assert (silent.receive(b""), silent.state, silent.ending) == (b"", OVER, Ending.DONE)


def test_talk_that_cannot_begin_fails_at_open_or_at_the_first_input() -> None:
    def broken() -> Talk:
        yield bytes([256])
        return None

    early, late = conversation(talk=broken), conversation(talk=broken)
    assert early.open() == late.receive(b"a\n")
    for talk in (early, late):
        assert (talk.state, talk.ending, talk.messages, type(talk.failure)) == (OVER, Ending.FAILED, 0, ValueError)


def test_talk_may_end_before_its_first_reply() -> None:
    def mute() -> Talk:
        yield from ()
        return b"full\n"

    talk = conversation(talk=mute)
    assert (talk.open(), talk.state, talk.ending) == (b"full\n", OVER, Ending.FINISHED)


def test_default_talk_calls_respond() -> None:
    class Shouting(Echo):
        def talk(self, peer: Peer) -> Talk:
            return (yield from super().talk(peer))

    talk = Conversation(Shouting())
    assert (talk.open(), talk.receive(b"a\nb\n")) == (b"", b"a\nb\n")


@pytest.mark.parametrize("over", [False, True], ids=["under way", "over"])
def test_close_runs_the_finally_clauses_of_a_talk(over: bool) -> None:
    left: list[str] = []

    def tidy() -> Talk:
        try:
            yield b""
            yield b""
            return None
        finally:
            left.append("left")

    talk = conversation(talk=tidy)
    talk.open()
    talk.receive(b"" if over else b"a\n")
    talk.close()
    assert left == ["left"]
    assert talk.failure is None


# --- batches ---------------------------------------------------------------------------------------


def test_large_replies_are_made_in_batches_on_demand() -> None:
    size, made = BATCH // 8, [0]

    def reply(line: bytes) -> bytes:
        made[0] += 1
        return line * size

    talk = conversation(respond=reply)
    heard = [talk.receive(b"x\n" * 100)]
    while talk.state == PENDING:
        assert made[0] == 4 * len(heard) == talk.messages
        heard.append(talk.proceed())
    assert (talk.state, made[0]) == (IDLE, 100)
    assert max(map(len, heard)) < BATCH + 2 * size
    assert b"".join(heard) == b"x\n" * size * 100


def test_end_of_the_input_is_processed_after_earlier_replies() -> None:
    talk = conversation(respond=lambda line: b"x" * BATCH)
    sizes = [len(talk.receive(b"a\nb\nc\nd"))]
    assert talk.state == PENDING
    sizes += [len(talk.receive(b"")), len(talk.proceed())]
    assert (talk.state, talk.ending) == (OVER, Ending.CUT)
    assert sizes == [BATCH] * 3


def test_framing_error_is_processed_after_earlier_replies() -> None:
    talk = conversation(respond=lambda line: b"x" * BATCH)
    assert (len(talk.receive(b"a\nb\n" + b"c" * 65)), talk.state, talk.ending) == (BATCH, PENDING, None)
    assert (len(talk.proceed()), talk.state, talk.ending) == (BATCH + len(b"sorry\n"), OVER, Ending.OVERSIZE)
