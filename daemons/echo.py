"""Says back what it is told, as RFC 862 has it.

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
