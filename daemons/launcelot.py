"""Answer the questions put to Sir Launcelot.

[daemon]
service = launcelot
port = 1060
"""

from daemons import Ending, Service, Until

ANSWERS = {
    b"What is your name?": b"My name is Sir Launcelot of Camelot.",
    b"What is your quest?": b"To seek the Holy Grail.",
    b"What is your favorite color?": b"Blue.",
}
UNKNOWN = b"I don't know that."


class Launcelot(Service):
    framing = Until(b"?", limit=4096, skip=b"\r\n")
    pure = True  # the reply depends on the question alone, so it may be cached
    questions = tuple(ANSWERS)
    answers = Until(b".", limit=4096)

    def respond(self, question: bytes) -> bytes:
        return ANSWERS.get(question, UNKNOWN)

    def apology(self, ending: Ending) -> bytes:
        return UNKNOWN  # clients read up to a full stop
