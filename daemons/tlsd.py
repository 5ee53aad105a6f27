"""Send a secret line over TLS only.

[daemon]
service = tlsd
listen = tls://127.0.0.1:1069
"""

from daemons import Peer, Service, Talk, Until

SECRET = b"Simple is better than complex."


class Tlsd(Service):
    #: Input is never read.
    framing = Until(b"\n", limit=1)
    tls_only = True

    def talk(self, peer: Peer) -> Talk:
        yield from ()
        return SECRET
