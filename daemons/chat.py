"""Pass each line to everyone in the room.

[daemon]
service = chat
port = 1072
"""

from contextlib import suppress

from daemons import Lines, Peer, PeerGone, Service, Talk, escape


class Chat(Service):
    framing = Lines(limit=1000)
    shares = True

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self.room: set[Peer] = set()

    def talk(self, peer: Peer) -> Talk:
        name = yield b"What is your name?"
        self.room.add(peer)
        try:
            self.push(b"* %b enters" % name)
            while True:
                line = yield None
                self.push(b"%b: %b" % (name, line))
        finally:
            self.room.discard(peer)
            self.push(b"* %b leaves" % name)

    def push(self, line: bytes) -> None:
        shown = escape(line.decode("utf-8", "replace")).encode()
        for peer in tuple(self.room):
            with suppress(PeerGone):  # its talk is about to end
                peer.send(shown)
