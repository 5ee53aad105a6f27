"""Tells the date and the time, as RFC 867 has it.

[daemon]
service = daytime
port = 9099
"""

import datetime

from daemons import Service, Stream, Talk


class Daytime(Service):
    framing = Stream()

    def talk(self) -> Talk:
        yield from ()  # nothing is heard
        return b"%s\n" % str(datetime.datetime.now()).encode("ascii")
