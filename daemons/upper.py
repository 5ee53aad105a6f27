"""Says in capitals what it is told.

[daemon]
service = upper
port = 1068

[limits]
spool = 256MiB
"""

from collections.abc import Sequence

from daemons import Service, Stream


class Upper(Service):
    framing = Stream()
    questions = (b"capitalize this!",)

    def respond(self, piece: bytes) -> bytes:
        return piece.upper()  # the letters of ASCII: any other octet stays as it is

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        return [b" ".join(words)]
