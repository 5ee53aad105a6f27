"""Hears messages in blocks, and says nothing: pattern 6 of framing.

[daemon]
service = blocks
port = 1067
"""

import logging
from collections.abc import Sequence

from daemons import Blocked, Blocks, Service, Talk

log = logging.getLogger(__name__)


class BlockLog(Service):
    framing = Blocks(limit=1024**2)
    questions = (
        b"Beautiful is better than ugly.",
        b"Explicit is better than implicit.",
        b"Simple is better than complex.",
    )

    def talk(self) -> Talk:
        while True:
            message = yield None  # an empty reply would be a message too
            assert isinstance(message, Blocked)
            for block in message.blocks:
                log.info("Block says: %r", block)

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        return [Blocked(words)]
