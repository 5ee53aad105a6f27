"""Echo lines that may contain quoted delimiters: framing pattern 4.

[daemon]
service = lines
port = 1065
"""

from daemons import Lines, Service


class LineEcho(Service):
    framing = Lines(limit=64 * 1024, quoted=True)
    answers = framing
    questions = (b"Sparse is better than dense.", b"Two lines\nin one message.")

    def respond(self, line: bytes) -> bytes:
        return line
