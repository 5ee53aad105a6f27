"""Thank each client for connecting, one at a time.

[daemon]
service = welcome
port = 1234
"""

from daemons import Peer, Service, Stream, Talk


class Welcome(Service):
    framing = Stream()

    def talk(self, peer: Peer) -> Talk:
        yield from ()  # no request is read
        return b"Thank you for connecting"
