"""The cache of a service: its bounds, its adaptation to the hit rate, and that it never changes a reply."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons import Ending, Service, Until
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.reply_cache import (
    MAX_ENTRIES,
    MAX_INPUT,
    MAX_MESSAGES,
    MAX_MISSES,
    MAX_REPLY,
    PAUSE,
    SHORT,
    WINDOW,
    ReplyCache,
)
from daemons.serving.conversation.service_binding import ServiceBinding
from tests.serving.conversation.test_contract import PIECES
from tests.serving.conversation.uncached import Uncached
from tests.serving.services import Echo


class Pure(Service):
    framing = Until(b"\n", limit=16, skip=b"\r")
    pure = True

    def respond(self, message: bytes) -> bytes:
        return b"<" + message + b">"

    def apology(self, ending: Ending) -> bytes:
        return str(ending.value).encode()


class Impure(Pure):
    pure = False


def converse(conversation: Conversation, inputs: int, distinct: int) -> None:
    """Send random messages, of which `distinct` differ."""
    chance = random.Random(1)
    for _ in range(inputs):
        message = b"%d\n" % chance.randrange(distinct)
        assert conversation.receive(message) == b"<" + message + b">"


def entries(cache: ReplyCache) -> int:
    return len(cache.replies) + len(cache.single) + len(cache.framed)


@pytest.mark.parametrize("kind", [Pure, Impure])
@given(peers=st.lists(PIECES, max_size=6))
def test_cache_never_changes_a_reply_an_ending_or_a_count(kind: type[Service], peers: list[list[bytes]]) -> None:
    binding = ServiceBinding(kind())
    for pieces in peers:
        service = kind()
        cached, uncached = Conversation(service, binding), Conversation(service, Uncached(service))
        for piece in [*pieces, *pieces, b""]:
            assert cached.receive(piece) == uncached.receive(piece)
            assert cached.state == uncached.state
            assert cached.ending == uncached.ending
            assert cached.messages == uncached.messages


@pytest.mark.parametrize("pure", [True, False])
def test_only_a_pure_service_is_not_called_for_a_repeated_input(pure: bool) -> None:
    calls: list[bytes] = []

    class Counting(Pure):
        def respond(self, message: bytes) -> bytes:
            calls.append(message)
            return message

    Counting.pure = pure
    service = Counting()
    binding = ServiceBinding(service)
    for _ in range(3):
        assert Conversation(service, binding).receive(b"a\nb\n") == b"a\nb\n"
    assert calls == [b"a\n", b"b\n"] * (1 if pure else 3)


@pytest.mark.parametrize("pieces", [[b"a\nb"], [b"a", b"\n"], [b"a" * 17], [b"\r"]], ids=repr)
def test_only_inputs_of_whole_messages_are_cached(pieces: list[bytes]) -> None:
    service = Pure()
    binding = ServiceBinding(service)
    conversation = Conversation(service, binding)
    for piece in pieces:
        conversation.receive(piece)
    assert entries(binding.cache) == 0


def test_failure_is_not_cached() -> None:
    class Moody(Pure):
        good = False

        def respond(self, message: bytes) -> bytes:
            if not self.good:
                raise RuntimeError("not in the mood")
            return b"good\n"

    service = Moody()
    binding = ServiceBinding(service)
    assert Conversation(service, binding).receive(b"a\n") == b"failed"
    service.good = True
    assert Conversation(service, binding).receive(b"a\n") == b"good\n"


@pytest.mark.parametrize(
    ("kind", "table", "messages"), [(Pure, "replies", 1), (Echo, "single", 1), (Echo, "framed", 2)]
)
def test_entries_are_bounded(kind: type[Service], table: str, messages: int) -> None:
    cache = ServiceBinding(kind()).cache
    stored: Mapping[bytes, object] = getattr(cache, table)
    most = 0
    for number in range(20 * MAX_ENTRIES):
        for _ in range(4):  # often enough for the cache to stay in use
            data = b"%d" % number
            if data not in stored:
                cache.put(data, [b""] * messages, b"")
        most = max(most, entries(cache))
    assert WINDOW // 2 < most <= MAX_ENTRIES


@pytest.mark.parametrize(
    ("data", "reply", "known", "single"),
    [
        (b"a" * (SHORT - 1), b"b" * MAX_REPLY, (SHORT - 1, 1, b"b" * MAX_REPLY, MAX_REPLY), None),
        # After an input as long as the read, the socket buffer may hold more.
        (b"a" * SHORT, b"b", None, b"a"),
        (b"a" * (MAX_INPUT + 1), b"b", None, None),
        (b"a", b"b" * (MAX_REPLY + 1), None, b"a"),
    ],
    ids=["longest", "as long as the read", "input too long", "reply too long"],
)
def test_only_short_inputs_and_replies_are_cached(data: bytes, reply: bytes, known: object, single: object) -> None:
    cache = ServiceBinding(Pure()).cache
    cache.put(data, [b"a"], reply)
    assert cache.replies.get(data) == known
    assert cache.single.get(data) == single


@pytest.mark.parametrize(
    ("messages", "stored"),
    [
        ([b"a"] * MAX_MESSAGES, True),
        ([b"a"] * (MAX_MESSAGES + 1), False),
        ([b"a" * MAX_INPUT], True),
        ([b"a" * MAX_INPUT, b"a"], False),
    ],
    ids=["most", "one too many", "longest", "decompressed to more"],
)
def test_few_and_short_messages_are_cached(messages: list[bytes], stored: bool) -> None:
    cache = ServiceBinding(Echo()).cache
    cache.put(b"short", messages, b"")
    assert (entries(cache) == 1) is stored


def test_replies_of_an_impure_service_are_not_cached() -> None:
    cache = ServiceBinding(Echo()).cache
    cache.put(b"a\n", [b"a\n"], b"a\n")
    cache.put(b"a\nb\n", [b"a\n", b"b\n"], b"a\nb\n")
    assert cache.replies == {}
    assert cache.single == {b"a\n": b"a\n"}
    assert cache.framed == {b"a\nb\n": (b"a\n", b"b\n")}


@pytest.mark.parametrize("kind", [Pure, Impure])
def test_cache_pauses_while_most_messages_are_distinct(kind: type[Service]) -> None:
    service = kind()
    binding = ServiceBinding(service)
    conversation = Conversation(service, binding)
    converse(conversation, 4 * WINDOW, 10_000)
    assert PAUSE - 4 * WINDOW < binding.cache.paused < PAUSE
    assert entries(binding.cache) == 0


@pytest.mark.parametrize("kind", [Pure, Impure])
@pytest.mark.parametrize("distinct", [1, 500, MAX_ENTRIES - 1])
def test_cache_stays_in_use_while_messages_repeat(kind: type[Service], distinct: int) -> None:
    service = kind()
    binding = ServiceBinding(service)
    converse(Conversation(service, binding), 16 * distinct, distinct)
    assert binding.cache.paused == 0
    assert entries(binding.cache) == distinct


def test_cache_is_used_again_after_the_pause_once_messages_repeat() -> None:
    service = Pure()
    binding = ServiceBinding(service)
    conversation = Conversation(service, binding)
    converse(conversation, 4 * WINDOW, 10_000)
    converse(conversation, PAUSE + 8 * WINDOW, 500)
    assert binding.cache.paused == 0
    assert entries(binding.cache) == 500


def test_pause_ends_under_conversations_of_one_message() -> None:
    service = Pure()
    binding = ServiceBinding(service)
    converse(Conversation(service, binding), 4 * WINDOW, 10_000)
    binding.cache.paused = 3
    for left in (2, 1, 0):
        assert Conversation(service, binding).receive(b"a\n") == b"<a\n>"
        assert binding.cache.paused == left


def test_hit_rate_of_one_half_keeps_the_cache_in_use() -> None:
    """Each input arrives twice, and differs from all others: the second lookup is a hit."""
    cache = ServiceBinding(Pure()).cache
    for number in range(4 * MAX_MISSES):
        for _ in range(2):
            data = b"%d\n" % number
            if data not in cache.replies:
                cache.put(data, [data], data)
            assert cache.paused == 0
