"""Log block-framed messages without replying: framing pattern 6.

[daemon]
service = blocks
port = 1067
"""

import logging
from collections.abc import Sequence

from daemons import Blocked, Blocks, Peer, Service, Talk

log = logging.getLogger(__name__)

#: Blocks of one message that are logged.  A message of 1 MiB may have 200,000.
LOGGED = 1000


class BlockLog(Service):
    framing = Blocks(limit=1024**2)
    questions = (
        b"Beautiful is better than ugly.",
        b"Explicit is better than implicit.",
        b"Simple is better than complex.",
    )

    def talk(self, peer: Peer) -> Talk:
        while True:
            message = yield None  # an empty reply would be sent as an empty message
            assert isinstance(message, Blocked)
            blocks = message.blocks
            for block in blocks[:LOGGED]:
                log.info("Block says: %r", block)
            if len(blocks) > LOGGED:
                log.info("(%d more blocks)", len(blocks) - LOGGED)

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        return [Blocked(words)]
