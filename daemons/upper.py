"""Send received bytes back in upper case.

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
        return piece.upper()  # ASCII letters only; other bytes are unchanged

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        return [b" ".join(words)]
