"""Reads sixteen octets, and says farewell.

[daemon]
service = sixteen
port = 1061
"""

import logging

from daemons import Fixed, Service, Talk

log = logging.getLogger(__name__)


class Sixteen(Service):
    framing = Fixed(16)  # what comes behind them is not read
    questions = (b"Hi there, server",)

    def talk(self) -> Talk:
        message = yield None
        log.info("Incoming sixteen-octet message: %r", message)
        return b"Farewell, client"
