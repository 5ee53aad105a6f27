"""Send received bytes back (Echo Protocol, RFC 862).

[daemon]
service = echo
listen = tcp://localhost:10007 udp://localhost:10007 unix:run/echo.sock
"""

from collections.abc import Sequence

from daemons import Service, Stream


class Echo(Service):
    framing = Stream()
    questions = (b"hello",)

    def respond(self, piece: bytes) -> bytes:
        return piece

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        return [b" ".join(words)]
