"""Read a stream to end-of-file, then send it back with its SHA-256: framing pattern 2.

[daemon]
service = twoway
port = 1064

[twoway]
limit = 64MiB
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from daemons import SIZE, Service, Whole, setting

log = logging.getLogger(__name__)


class TwoWay(Service):
    @dataclass(frozen=True)
    class Options:
        """The section [twoway]."""

        limit: int = setting(SIZE, 64 * 1024**2, "Maximum length of a stream, which is buffered in memory to its end.")

    framing = Whole(limit=Options.limit)
    questions = (b"Flat is better than nested.",)

    def __init__(self, options: Options | None = None) -> None:
        if options is not None:
            self.framing = Whole(limit=options.limit)
        super().__init__(options)

    def respond(self, message: bytes) -> bytes:
        digest = hashlib.sha256(message).hexdigest()
        log.info("%d bytes, SHA-256 %s", len(message), digest)
        return message + b"\n%s\n" % digest.encode("ascii")

    @classmethod
    def messages(cls, words: Sequence[bytes]) -> Sequence[bytes]:
        return [b" ".join(words)]
