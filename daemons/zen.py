"""Complete aphorisms from the Zen of Python.

[daemon]
service = zen
port = 1070
"""

from daemons import Ending, Service, Until

ANSWERS = {
    b"Beautiful is better than?": b"Ugly.",
    b"Explicit is better than?": b"Implicit.",
    b"Simple is better than?": b"Complex.",
}
UNKNOWN = b"Error: unknown aphorism."


class Zen(Service):
    framing = Until(b"?", limit=4096, skip=b"\r\n")
    pure = True
    questions = tuple(ANSWERS)
    answers = Until(b".", limit=4096)

    def respond(self, question: bytes) -> bytes:
        return ANSWERS.get(question, UNKNOWN)

    def apology(self, ending: Ending) -> bytes:
        return UNKNOWN
