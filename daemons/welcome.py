"""Thanks every visitor for connecting, one after the other.

[daemon]
service = welcome
port = 1234
"""

from daemons import Service, Stream, Talk


class Welcome(Service):
    framing = Stream()

    def talk(self) -> Talk:
        yield from ()  # nothing is heard
        return b"Thank you for connecting"
