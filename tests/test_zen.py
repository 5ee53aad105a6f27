"""The replies of the Zen daemon.  Transcripts are in ``transcripts/zen.txt``."""

from __future__ import annotations

import codecs
import contextlib
import io

from daemons.serving.conversation.endings import Ending
from daemons.zen import ANSWERS, UNKNOWN, Zen


def test_the_words_of_the_book() -> None:
    assert ANSWERS == {
        b"Beautiful is better than?": b"Ugly.",
        b"Explicit is better than?": b"Implicit.",
        b"Simple is better than?": b"Complex.",
    }
    assert UNKNOWN == b"Error: unknown aphorism."


def test_the_words_are_those_of_import_this() -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    zen = codecs.decode(this.s, "rot13")
    for question, answer in ANSWERS.items():
        assert f"{question.decode().rstrip('?')} {answer.decode().lower()}" in zen


def test_every_reply_ends_with_the_delimiter_of_the_client() -> None:
    assert Zen.answers is not None
    service = Zen()
    for answer in (*ANSWERS.values(), UNKNOWN, *map(service.apology, Ending)):
        decoder = Zen.answers.decoder()
        assert list(decoder.decode(answer)) == [answer]
        assert not decoder.pending


def test_client_asks_the_known_questions_in_order() -> None:
    assert tuple(ANSWERS) == Zen.questions
    for question in Zen.questions:
        assert list(Zen.framing.decoder().decode(question)) == [question]
