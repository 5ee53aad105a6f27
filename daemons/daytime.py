"""Send the date and time (Daytime Protocol, RFC 867).

[daemon]
service = daytime
port = 9099
"""

import datetime

from daemons import Peer, Service, Stream, Talk


class Daytime(Service):
    framing = Stream()

    def talk(self, peer: Peer) -> Talk:
        yield from ()  # no request is read
        return b"%s\n" % str(datetime.datetime.now()).encode("ascii")
