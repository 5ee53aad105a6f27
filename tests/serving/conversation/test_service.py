"""Errors in the class of a service are raised by its constructor, before the first connection."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from daemons import Ending, Peer, Service, Until
from tests.serving.services import Echo, Polite


def test_service_without_a_framing_is_a_type_error() -> None:
    class Unframed(Service):
        def respond(self, message: bytes) -> bytes:
            return message

    with pytest.raises(TypeError) as caught:
        Unframed()
    assert str(caught.value) == "Unframed: no framing; write for example framing = Until(b'?', limit=4096)"


@pytest.mark.parametrize("framing", [Until, b"?", None], ids=repr)
def test_framing_of_another_type_is_a_type_error(framing: Any) -> None:
    kind = type("Misframed", (Echo,), {"framing": framing})
    with pytest.raises(TypeError, match=r"^Misframed: no framing; "):
        kind()


def test_service_without_respond_and_talk_is_a_type_error() -> None:
    class Mute(Service):
        framing = Until(b"?", limit=9)

    with pytest.raises(TypeError) as caught:
        Mute()
    assert str(caught.value) == "Mute: neither respond() nor talk() is defined; one is expected"


def test_respond_or_talk_suffices() -> None:
    assert Echo().respond(b"a") == b"a"
    assert inspect.isgenerator(Polite().talk(Peer()))


def test_options_are_the_argument_of_the_constructor() -> None:
    assert Echo().options is None
    assert Echo(options=3).options == 3


def test_defaults_are_no_greeting_no_apology_and_not_pure() -> None:
    assert all(Echo().apology(ending) == b"" for ending in Ending)
    assert Service.pure is False
    assert (Service.questions, Service.answers, Service.Options) == ((), None, None)
