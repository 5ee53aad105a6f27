"""Echo length-prefixed messages: framing pattern 5.

[daemon]
service = prefix
port = 1066
"""

from daemons import LengthPrefixed, Service


class PrefixEcho(Service):
    framing = LengthPrefixed(limit=1024**2)
    answers = framing
    questions = (b"Readability counts.",)

    def respond(self, message: bytes) -> bytes:
        return message
