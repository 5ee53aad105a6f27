"""Replies of the cache: limits, the end of a conversation, statistics."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable

import pytest

from daemons.cached import Cached
from daemons.serving.conversation.endings import Ending
from tests.cached.comparing import comparable
from tests.cached.random_commands import PLACEHOLDER, RandomCommands
from tests.cached.seam import Seam
from tests.transcripts.transcripts import cut_at_random, octet_by_octet

Ask = Callable[[bytes], bytes]


def stats(ask: Ask, *words: str) -> dict[str, str]:
    lines = ask(" ".join(("stats", *words, "\r\n")).encode()).decode().splitlines()
    assert lines.pop() == "END"
    return dict(line.removeprefix("STAT ").split(" ", 1) for line in lines)


def test_replies_do_not_depend_on_how_the_input_is_cut() -> None:
    for seed in range(20):
        commands = RandomCommands(seed)
        data = b"".join(PLACEHOLDER.sub(b"7", commands.command()) for _ in range(40))
        replies = comparable(Seam().ask(data))
        for pieces in (cut_at_random(data), octet_by_octet(data) if len(data) < 8000 else cut_at_random(data)):
            cut = Seam()
            assert comparable(b"".join(map(cut.ask, filter(None, pieces)))) == replies


@pytest.mark.parametrize("name", [b"set", b"add", b"cas", b"ms"])
def test_a_key_of_251_bytes_is_refused_and_the_next_command_is_answered(name: bytes, ask: Ask) -> None:
    last = {b"cas": b"0 0 1 5", b"ms": b"1"}.get(name, b"0 0 1")
    reply = ask(b"%b %b %b\r\n1\r\nmn\r\n" % (name, b"k" * 251, last))
    assert reply == b"CLIENT_ERROR bad command line format\r\nMN\r\n"


def test_a_key_of_250_bytes_is_stored(ask: Ask) -> None:
    key = b"k" * 250
    assert ask(b"set %b 0 0 1\r\n1\r\nget %b\r\n" % (key, key)) == b"STORED\r\nVALUE %b 0 1\r\n1\r\nEND\r\n" % key


@pytest.mark.parametrize("byte", [b"\0", b"\t", b"\r", b"\x7f", b"\x1b"])
def test_a_key_with_a_control_character_is_refused(byte: bytes, ask: Ask) -> None:
    key = b"a" + byte + b"b"
    for line in (b"set %b 0 0 1\r\n1", b"get %b", b"get x %b", b"mg %b v", b"delete %b", b"incr %b 1", b"touch %b 0"):
        assert ask(line % key + b"\r\nmn\r\n") == b"CLIENT_ERROR bad command line format\r\nMN\r\n"


def test_a_value_of_the_limit_is_stored_and_one_byte_more_is_skipped(ask: Ask) -> None:
    value = b"x" * 1024**2
    assert ask(b"set a 0 0 %d\r\n%b\r\n" % (len(value), value)) == b"STORED\r\n"
    assert ask(b"set a 0 0 %d\r\nx%b\r\nget a\r\n" % (len(value) + 1, value)) == (
        b"SERVER_ERROR object too large for cache\r\nEND\r\n"
    )


def test_an_announced_length_beyond_2_gib_is_skipped_as_well(cache: Seam) -> None:
    assert cache.ask(b"set a 0 0 4294967296\r\n" + b"get a\r\n" * 1000) == b"CLIENT_ERROR bad command line format\r\n"
    cache.ask(b"")
    assert cache.conversation.ending is Ending.CUT


def test_a_reply_to_many_keys_is_made_as_the_client_reads_it() -> None:
    seam = Seam()
    seam.ask(b"set a 0 0 1000000\r\n%b\r\n" % (b"x" * 1_000_000))
    line = b"get" + b" a" * 500_000 + b"\r\n"
    first = seam.conversation.receive(line)
    assert len(first) < 2_100_000
    for _ in range(20):
        assert len(seam.conversation.proceed()) < 2_100_000
    seam.conversation.close()


def test_a_reply_to_many_missing_keys_is_made_in_batches(cache: Seam) -> None:
    line = b"get" + b" a" * 5000 + b"\r\n"
    assert cache.conversation.receive(line) == b""
    assert cache.ask(b"mn\r\n") == b"END\r\nMN\r\n"


def test_quit_ends_the_conversation(cache: Seam) -> None:
    assert cache.ask(b"set a 0 0 1\r\n1\r\nquit\r\n") == b"STORED\r\n"
    assert (cache.over, cache.conversation.ending) == (True, Ending.DONE)


def test_noreply_silences_errors_too(ask: Ask) -> None:
    for line in (b"set %b 0 0 1 noreply\r\n1", b"incr %b 1 noreply", b"touch %b 1 noreply", b"delete %b noreply"):
        assert ask(line % (b"k" * 251) + b"\r\n") == b""
    assert ask(b"flush_all noreply\r\nverbosity 1 noreply\r\nincr n x noreply\r\nmn\r\n") == b"MN\r\n"


def test_statistics_count_commands_and_items(ask: Ask) -> None:
    ask(b"set a 0 0 1\r\n1\r\nget a\r\nget a b\r\nincr a 1\r\ndecr b 1\r\ndelete b\r\ntouch a 9\r\n")
    ask(b"cas a 0 0 1 99\r\n1\r\n")
    figures = stats(ask)
    expected = {"cmd_get": 3, "get_hits": 2, "get_misses": 1, "cmd_set": 2, "incr_hits": 1, "decr_misses": 1}
    expected |= {"delete_misses": 1, "touch_hits": 1, "cas_badval": 1, "curr_items": 1, "total_items": 2}
    assert {name: int(figures[name]) for name in expected} == expected
    assert ask(b"stats reset\r\n") == b"RESET\r\n"
    assert int(stats(ask)["cmd_get"]) == 0
    assert stats(ask, "settings")["item_size_max"] == "1048576"
    assert stats(ask, "items")["items:1:number"] == "1"
    assert stats(Seam().ask, "items") == {}


def test_version_begins_with_that_of_the_protocol(ask: Ask) -> None:
    assert ask(b"version\r\n").startswith(b"VERSION 1.6.")


def test_a_winner_is_told_once_to_compute_a_value_again(ask: Ask) -> None:
    assert [ask(b"mg a N30 v\r\n") for _ in range(2)] == [b"VA 0 W\r\n\r\n", b"VA 0 Z\r\n\r\n"]
    assert ask(b"ms a 1 T60\r\n1\r\nmg a v t\r\n") == b"HD\r\nVA 1 t60\r\n1\r\n"
    assert ask(b"md a I T30\r\n") == b"HD\r\n"
    assert [ask(b"mg a v\r\n") for _ in range(2)] == [b"VA 1 X W\r\n1\r\n", b"VA 1 Z X\r\n1\r\n"]


def test_a_key_in_base64_may_have_any_bytes(ask: Ask) -> None:
    assert ask(b"ms AA0KIA== 2 b\r\nhi\r\nmg AA0KIA== b k v\r\n") == b"HD\r\nVA 2 kAA0KIA== b\r\nhi\r\n"


def test_a_key_in_base64_is_not_reached_by_a_line_that_contains_it(ask: Ask) -> None:
    for key in (b"a b", b"a\r\nb", b"a\x01b", b"\n"):
        coded = b64encode(key)
        assert ask(b"ms %b 2 b\r\nhi\r\nme %b b\r\n" % (coded, coded)).startswith(b"HD\r\nME " + coded)
        assert b"VALUE" not in ask(b"get %b\r\ngets %b\r\n" % (key, key))
    assert ask(b"ms %b 2 b\r\nhi\r\nget plain\r\n" % b64encode(b"plain")) == (b"HD\r\nVALUE plain 0 2\r\nhi\r\nEND\r\n")


def test_an_item_larger_than_the_memory_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="item is larger than memory"):
        Cached(Cached.Options(memory=1000, item=2000))


def test_random_lines_are_answered_or_refused_without_an_exception() -> None:
    alphabet = b"\0\t\r\n \x7f\xff0159abcgimnqrstv"
    for _ in range(300):
        seam = Seam()
        data = b"\n".join(
            random.choice([b"mg ", b"ms a 1 ", b"ma ", b"md ", b"set a ", b"incr ", b"gat ", b"flush_all ", b"stats "])
            + bytes(random.choices(alphabet, k=random.randint(0, 40)))
            for _ in range(10)
        )
        seam.ask(data)
