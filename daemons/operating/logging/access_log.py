"""The access line: one for each conversation, ending in a word from the table of endings."""

from __future__ import annotations

import time
from collections.abc import Iterable

from daemons.operating.logging.lines import Lines
from daemons.operating.logging.request_log import RequestLog
from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import Ending

#: An attribute of an enumeration's class is slow to get, until Python 3.12.
DONE = Ending.DONE

#: Most conversations take less than a second; to write a float takes as long as half of all else in a line.
MILLISECONDS = tuple(f"0.{number:03}" for number in range(1000))

#: Peer, word, messages, octets received and sent, seconds, and the reason.
FORM = "%s %s messages=%s received=%s sent=%s seconds=%s%s"


class AccessLog(Lines):
    """Writes the access lines of the daemon `name`, to the logger ``daemons.NAME.access``; and, with `requests`, a
    form of `daemons.operating.logging.request_log`, a line for each request of a service that has such."""

    def __init__(self, name: str, *, together: bool = False, requests: str = "no") -> None:
        #: None: requests have no lines.
        self.requests = None if requests == "no" else RequestLog(name, requests, together=together)
        super().__init__(f"daemons.{name}.access", {ending.level for ending in Ending}, together=together)

    def configure(self) -> None:
        super().configure()
        if self.requests is not None:
            self.requests.configure()

    @property
    def first_due(self) -> float:
        """When (monotonic) somebody has to call `flush_all`."""
        return self.due if self.requests is None else min(self.due, self.requests.due)

    def flush_all(self) -> None:
        """Write what waits, of requests before their conversations."""
        if self.requests is not None:
            self.requests.flush()
        self.flush()

    def tell(self, connection: Connection) -> None:
        """Write the line of a conversation that has ended."""
        self.tell_all((connection,), time.monotonic())

    def tell_all(self, connections: Iterable[Connection], now: float) -> None:
        """Write the lines of conversations that have ended `now` (monotonic)."""
        put = self.waiting.append if self.holds else self.put
        for connection in connections:
            ending = connection.ending or DONE
            level = ending.level
            if not self.enabled[level]:
                continue
            took = int((now - connection.opened) * 1000 + 0.5)
            seconds = MILLISECONDS[took] if took < 1000 else f"{took / 1000:.3f}"
            why = "" if not (reason := connection.reason) else _why(reason)
            messages, received, sent = connection.messages, connection.received, connection.sent
            # Not the connection itself: its memory is wanted, while it is warm, for the next one.
            if messages is not None:
                put((now, level, (connection.peer, ending.word, messages, received, sent, seconds, why)))
            else:
                # What a raw handler receives and sends, nobody sees.
                put((now, level, (connection.peer, ending.word, "-", "-", "-", seconds, why)))
        if self.holds:
            self.hold(now)

    def form(self, now: float) -> str:
        return FORM


def _why(reason: str) -> str:
    # Our own words, never the peer's.
    return f' reason="{reason}"' if " " in reason else f" reason={reason}"
