"""The replies of Sir Launcelot.  Transcripts are in ``transcripts/launcelot.txt``."""

from __future__ import annotations

from daemons.launcelot import ANSWERS, UNKNOWN, Launcelot
from daemons.serving.conversation.endings import Ending


def test_the_words_of_the_notes() -> None:
    assert ANSWERS == {
        b"What is your name?": b"My name is Sir Launcelot of Camelot.",
        b"What is your quest?": b"To seek the Holy Grail.",
        b"What is your favorite color?": b"Blue.",
    }
    assert UNKNOWN == b"I don't know that."


def test_every_reply_ends_with_the_delimiter_of_the_client() -> None:
    assert Launcelot.answers is not None
    service = Launcelot()
    for answer in (*ANSWERS.values(), UNKNOWN, *map(service.apology, Ending)):
        decoder = Launcelot.answers.decoder()
        assert list(decoder.decode(answer)) == [answer]
        assert not decoder.pending


def test_client_asks_the_known_questions_in_order() -> None:
    assert tuple(ANSWERS) == Launcelot.questions
    for question in Launcelot.questions:
        assert list(Launcelot.framing.decoder().decode(question)) == [question]
