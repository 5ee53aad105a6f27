"""What a service must have, said when it is made and not when the first visitor comes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from daemons import Ending, Service, Until
from tests.serving.services import Echo, Polite


def test_without_a_framing_it_cannot_be_made() -> None:
    class Unframed(Service):
        def respond(self, message: bytes) -> bytes:
            return message

    with pytest.raises(TypeError) as caught:
        Unframed()
    assert str(caught.value) == "Unframed: no framing; write for example framing = Until(b'?', limit=4096)"


@pytest.mark.parametrize("framing", [Until, b"?", None], ids=repr)
def test_what_is_no_framing_is_none(framing: Any) -> None:
    kind = type("Misframed", (Echo,), {"framing": framing})
    with pytest.raises(TypeError, match=r"^Misframed: no framing; "):
        kind()


def test_with_nothing_to_say_it_cannot_be_made() -> None:
    class Mute(Service):
        framing = Until(b"?", limit=9)

    with pytest.raises(TypeError) as caught:
        Mute()
    assert str(caught.value) == "Mute: neither respond() nor talk() is defined; one is expected"


def test_either_respond_or_talk_is_enough() -> None:
    assert Echo().respond(b"a") == b"a"
    assert inspect.isgenerator(Polite().talk())


def test_its_options_are_what_it_was_made_with() -> None:
    assert Echo().options is None
    assert Echo(options=3).options == 3


def test_by_default_it_says_nothing_more_and_is_not_remembered() -> None:
    assert all(Echo().apology(ending) == b"" for ending in Ending)
    assert Service.pure is False
    assert (Service.questions, Service.answers, Service.Options) == ((), None, None)
