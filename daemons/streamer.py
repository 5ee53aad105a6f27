"""Log a stream read to end-of-file, without replying: framing pattern 1.

[daemon]
service = streamer
port = 1063
"""

import logging
from collections.abc import Sequence

from daemons import Service, Whole

log = logging.getLogger(__name__)

#: Lines of one message that are logged.  Logging an empty line takes longer than sending it: 1 MiB of them would take
#: 14 s and rotate all other lines out of the log.
LOGGED = 1000


class Streamer(Service):
    framing = Whole(limit=1024**2)
    questions = (
        b"Beautiful is better than ugly.",
        b"Explicit is better than implicit.",
        b"Simple is better than complex.",
    )

    def respond(self, message: bytes) -> bytes:
        log.info("Done receiving the message; it says:")
        lines = message.splitlines()
        for line in lines[:LOGGED]:
            log.info("%s", line.decode("utf-8", "backslashreplace"))
        if len(lines) > LOGGED:
            log.info("(%d more lines)", len(lines) - LOGGED)
        return b""

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        return [b"".join(word + b"\n" for word in words)]
