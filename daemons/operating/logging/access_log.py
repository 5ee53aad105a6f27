"""Access log: one line for each conversation, with its ending."""

from __future__ import annotations

import time
from collections.abc import Iterable

from daemons.operating.logging.lines import Lines
from daemons.operating.logging.request_log import RequestLog
from daemons.serving.connection import Connection
from daemons.serving.conversation.endings import Ending

#: Attribute access on an enum class is slow before Python 3.12.
DONE = Ending.DONE

#: Durations below a second, formatted: formatting a float takes half as long as the rest of a line.
MILLISECONDS = tuple(f"0.{number:03}" for number in range(1000))

#: Peer, ending, messages, bytes received and sent, seconds, and the reason.
FORM = "%s %s messages=%s received=%s sent=%s seconds=%s%s"


class AccessLog(Lines):
    """Logs conversations of the daemon `name` to the logger ``daemons.NAME.access``.

    requests
        A format of `daemons.operating.logging.request_log`, for one more line for each HTTP request.
    """

    def __init__(self, name: str, *, together: bool = False, requests: str = "no") -> None:
        #: None: requests are not logged.
        self.request_log = None if requests == "no" else RequestLog(name, requests, together=together)
        super().__init__(f"daemons.{name}.access", {ending.level for ending in Ending}, together=together)

    def configure(self) -> None:
        super().configure()
        if self.request_log is not None:
            self.request_log.configure()

    @property
    def first_due(self) -> float:
        """When (monotonic) to call `flush_all`."""
        return self.due if self.request_log is None else min(self.due, self.request_log.due)

    def flush_all(self) -> None:
        """Write pending lines, those of requests before their conversations."""
        if self.request_log is not None:
            self.request_log.flush()
        self.flush()

    def log(self, connection: Connection) -> None:
        """Log a conversation that has ended."""
        self.log_all((connection,), time.monotonic())

    def log_all(self, connections: Iterable[Connection], now: float) -> None:
        """Log conversations that have ended at `now` (monotonic)."""
        put = self.waiting.append if self.holds else self.put
        for connection in connections:
            ending = connection.ending or DONE
            level = ending.level
            if not self.enabled[level]:
                continue
            took = int((now - connection.opened) * 1000 + 0.5)
            seconds = MILLISECONDS[took] if took < 1000 else f"{took / 1000:.3f}"
            suffix = "" if not (reason := connection.reason) else _quoted(reason)
            messages, received, sent = connection.messages, connection.received, connection.sent
            # Not the connection itself, so that its memory is reused, still in cache, by the next one.
            if messages is not None:
                put((now, level, (connection.peer, ending.word, messages, received, sent, seconds, suffix)))
            else:
                # Bytes of a raw handler are not counted.
                put((now, level, (connection.peer, ending.word, "-", "-", "-", seconds, suffix)))
        if self.holds:
            self.hold(now)

    def form(self, now: float) -> str:
        return FORM


def _quoted(reason: str) -> str:
    # Reasons are texts of the suite, never of the peer.
    return f' reason="{reason}"' if " " in reason else f" reason={reason}"
