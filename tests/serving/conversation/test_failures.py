"""Errors of a service or a framing end its conversation only: the contract's *it never raises*, error by error."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Any

import pytest

from daemons import Ending, Talk, Until
from daemons.framings import Decoder, Framing, Malformed
from daemons.serving import signals
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.states import OVER
from tests.serving.services import Failing, conversation, raising

#: Exceptions that third-party code raises.  CancelledError and SystemExit are not subclasses of Exception.
ERRORS = [
    RuntimeError("bug"),
    KeyError("no such question"),
    StopIteration(b"not last words"),
    StopAsyncIteration(),
    SystemExit(1),
    KeyboardInterrupt(),
    MemoryError(),
    RecursionError(),
    ConnectionResetError("another connection"),
    TimeoutError(),
    EOFError(),
    asyncio.CancelledError(),
    GeneratorExit(),
    ExceptionGroup("many", [ValueError()]),
    BaseExceptionGroup("many", [asyncio.CancelledError()]),
]
NO_BYTES = [None, "text", 3, bytearray(b"x"), memoryview(b"x"), [b"x"], bytes]

each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
each_wrong_type = pytest.mark.parametrize("wrong", NO_BYTES, ids=lambda wrong: type(wrong).__name__)


@each_error
def test_exception_in_respond_ends_the_conversation_with_an_apology(error: BaseException) -> None:
    talk = conversation(respond=lambda line: line if line == b"a\n" else raising(error)())
    assert talk.receive(b"a\nb\nc\n") == b"a\nsorry\n"
    assert (talk.state, talk.ending, talk.failure, talk.messages) == (OVER, Ending.FAILED, error, 2)


@each_wrong_type
def test_reply_that_is_not_bytes_is_a_failure(wrong: object) -> None:
    talk = conversation(respond=lambda line: wrong)
    assert talk.receive(b"a\n") == b"sorry\n"
    assert talk.ending is Ending.FAILED
    kind = "None" if wrong is None else type(wrong).__name__
    assert str(talk.failure).startswith(f"Made.respond returned {kind}; bytes are expected")
    if wrong is None:
        assert str(talk.failure).endswith(', b"" for no reply')


@each_error
def test_exception_before_the_greeting_is_a_failure(error: BaseException) -> None:
    talk = conversation(talk=raising(error))
    assert talk.open() in (b"sorry\n", b"not last words")
    assert talk.state == OVER
    talk.close()


@each_error
def test_exception_in_a_talk_is_a_failure(error: BaseException) -> None:
    def failing() -> Talk:
        yield b"hello\n"
        raise error

    talk = conversation(talk=failing)
    assert (talk.open(), talk.receive(b"a\nb\n"), talk.ending) == (b"hello\n", b"sorry\n", Ending.FAILED)
    talk.close()


@each_error
def test_exception_in_the_finally_clause_of_a_talk_is_a_failure(error: BaseException) -> None:
    def failing() -> Talk:
        try:
            yield b"hello\n"
        finally:
            raise error

    talk = conversation(talk=failing)
    talk.open()
    talk.close()
    assert talk.ending is Ending.FAILED or isinstance(error, GeneratorExit)


def test_talk_that_ignores_generator_exit_is_a_failure() -> None:
    def clinging() -> Talk:
        try:
            yield b""
        except GeneratorExit:
            yield b""
        return None

    talk = conversation(talk=clinging)
    talk.open()
    talk.close()
    assert talk.ending is Ending.FAILED
    assert str(talk.failure) == "generator ignored GeneratorExit"


@each_wrong_type
def test_last_reply_that_is_not_bytes_is_a_failure(wrong: object) -> None:
    def ending() -> Any:
        yield b""
        return wrong

    talk = conversation(talk=ending)
    talk.open()
    reply = talk.receive(b"a\n")
    assert (reply, talk.ending) == ((b"", Ending.FINISHED) if wrong is None else (b"sorry\n", Ending.FAILED))


@pytest.mark.parametrize("wrong", [None, 3, "text", b"bytes", [b"a", b"b"]], ids=repr)
def test_talk_that_is_not_a_generator_is_a_failure(wrong: object) -> None:
    talk = conversation(talk=lambda: wrong)
    assert (talk.open(), talk.ending) == (b"sorry\n", Ending.FAILED)
    talk.close()


def test_keyboard_interrupt_of_a_signal_handler_differs_from_that_of_a_service() -> None:
    """The conversation ends in either case; the server reraises only the exception of a signal handler."""
    for error, is_from_handler in ((interrupt, True), (raising(KeyboardInterrupt()), False)):
        talk = conversation(respond=error)
        assert talk.receive(b"a\n") == b"sorry\n"
        assert isinstance(talk.failure, KeyboardInterrupt)
        assert signals.is_from_handler(talk.failure) is is_from_handler


def interrupt(line: bytes) -> bytes:
    """Do what Python does at Ctrl-C."""
    signal.default_int_handler(signal.SIGINT, None)


@each_error
def test_apology_that_raises_is_empty_and_keeps_the_first_failure(error: BaseException) -> None:
    bug = RuntimeError("bug")
    talk = conversation(respond=raising(bug), apology=raising(error))
    assert (talk.receive(b"a\n"), talk.ending, talk.failure) == (b"", Ending.FAILED, bug)
    talk = conversation(respond=lambda line: line, apology=raising(error))
    assert (talk.receive(b"a" * 65), talk.ending, talk.failure) == (b"", Ending.FAILED, error)


@each_wrong_type
def test_apology_that_is_not_bytes_is_empty(wrong: object) -> None:
    talk = conversation(respond=lambda line: line, apology=lambda ending: wrong)
    assert (talk.receive(b"a" * 65), talk.ending) == (b"", Ending.FAILED)
    assert str(talk.failure) == f"apology() returned {type(wrong).__name__}; bytes are expected"


def test_text_of_an_exception_is_not_sent() -> None:
    talk = Conversation(Failing())
    assert talk.receive(b"a\nfail\nb\n") == b"a\nsorry: failed\n"
    assert str(talk.failure) == "a secret\nof the service"


# --- faulty framings -------------------------------------------------------------------------------


class Treacherous(Framing):
    """Framing whose decoder or encoder raises."""

    def __init__(self, error: BaseException, where: str) -> None:
        self.error, self.where = error, where

    def decoder(self) -> Decoder:
        framing = self

        class TreacherousDecoder(Decoder):
            def decode(self, data: bytes) -> Sequence[bytes]:
                if framing.where == "decode":
                    raise framing.error
                return (data,)

            def finish(self) -> Sequence[bytes]:
                if framing.where == "finish":
                    raise framing.error
                return super().finish()

            @property
            def pending(self) -> bool:
                return False

        return TreacherousDecoder()

    def encode(self, reply: bytes) -> bytes:
        if self.where == "encode":
            raise self.error
        return reply


@each_error
@pytest.mark.parametrize("where", ["decode", "finish", "encode"])
def test_framing_that_raises_is_a_failure(error: BaseException, where: str) -> None:
    talk = conversation(respond=lambda line: line, framing=Treacherous(error, where))
    heard = talk.receive(b"a") + talk.receive(b"")
    assert heard == (b"asorry\n" if where == "finish" else b"sorry\n")
    assert (talk.state, talk.ending, talk.failure) == (OVER, Ending.FAILED, error)


def test_input_that_violates_the_framing_is_malformed() -> None:
    class Strict(Framing):
        def decoder(self) -> Decoder:
            decoder = Until(b"\n", limit=9).decoder()
            decoder.error = Malformed("no")
            return decoder

    talk = conversation(respond=lambda line: line, framing=Strict(), apology=lambda ending: ending.value.encode())
    assert (talk.receive(b"a\n"), talk.ending) == (b"malformed", Ending.MALFORMED)
