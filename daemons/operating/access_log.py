"""The access line: one for each conversation, ending in a word from the table of endings.

Through a `logging.LogRecord` the line is the dearest thing about a short conversation: about 15 µs, a
quarter of what all the rest costs.  So the shared configuration is asked once whether, where and in which
format such a line goes; from then on lines are made from a template.  Under `loop`, where one thread ends
all conversations, they are made and written together, up to 250 ms late: one after the other, each takes a
third of the time that it takes between two conversations.

A configuration that does more with the line than to print it (a handler or filter that is not ours) gets
its records as ever.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from typing import Any, TypeAlias

from daemons.operating.logs import LINE_LIMIT, LineFormatter, Output
from daemons.serving.connection import Connection, show_peer
from daemons.serving.endings import Ending

#: Seconds that a line may wait for company, and lines that are too many to wait any longer.
DELAY = 0.25
BATCH = 400

NEVER = float("inf")

#: Seconds that the time in a template stays the time: the clock of a log need not be better.
RESOLUTION = 0.01

#: An attribute of an enumeration's class is slow to get, until Python 3.12.
DONE = Ending.DONE

#: What is told of a conversation: when (monotonic) it ended and how, its peer's address or name, when it began,
#: messages, octets received and sent, and the reason.
Told: TypeAlias = tuple[float, Ending, Any, float, int | None, int, int, str]

_NO_TEMPLATE = (0.0, "", "")
_MARK = "\N{REPLACEMENT CHARACTER}message"


class AccessLog:
    """Writes the access lines of the daemon `name`, to the logger ``daemons.NAME.access``.

    together
        Hold lines back to write them in batches; whoever asks for this calls `flush`, from one thread.
    """

    def __init__(self, name: str, *, together: bool = False) -> None:
        self._logger = logging.getLogger(f"daemons.{name}.access")
        self._together = together
        #: What is known of conversations whose lines wait.
        self._waiting: list[Told] = []
        #: When (monotonic) the first of the lines that wait was due to be written.
        self.due = NEVER
        self.configure()

    def configure(self) -> None:
        """Read the logging configuration; again when it has changed."""
        if self._waiting:
            self.flush()
        self._enabled = {ending: self._logger.isEnabledFor(ending.level) for ending in Ending}
        self._output = _only_output(self._logger)
        #: By level, what templates are made from: a new record for each would be half of their price.
        self._records = {
            level: self._logger.makeRecord(self._logger.name, level, "", 0, _MARK, (), None)
            for level in {ending.level for ending in Ending}
        }
        #: By level: until when (monotonic) the template holds, and what stands before and after the message.
        self._templates: dict[int, tuple[float, str, str]] = {}

    def tell(self, connection: Connection) -> None:
        """Write the line of a conversation that has ended."""
        self.tell_all((connection,), time.monotonic())

    def tell_all(self, connections: Iterable[Connection], now: float) -> None:
        """Write the lines of conversations that have ended `now` (monotonic)."""
        for connection in connections:
            ending = connection.ending or DONE
            if not self._enabled[ending]:
                continue
            # Not the connection itself: its memory is wanted, while it is warm, for the next one.
            told = (
                now,
                ending,
                # Of a Unix peer the socket knows, which is about to be closed.
                connection.address if type(connection.address) is tuple else connection.peer,
                connection.opened,
                connection.messages,
                connection.received,
                connection.sent,
                connection.reason,
            )
            if self._output is None:
                self._logger.log(ending.level, "%s", _message(*told))
            elif self._together:
                self._waiting.append(told)
            else:
                self._output.write(self._line(told))
        if len(self._waiting) >= BATCH:
            self.flush()
        elif self._waiting and self.due == NEVER:
            self.due = now + DELAY

    def flush(self) -> None:
        """Write what waits, in as few writes as keep each under `LINE_LIMIT`."""
        waiting, self._waiting = self._waiting, []
        self.due = NEVER
        if self._output is None:
            return
        together: list[str] = []
        size = 0
        for told in waiting:
            line = self._line(told)
            # Access lines are ASCII but for what a format puts around them; room is left for that.
            if size + 2 * len(line) > LINE_LIMIT:
                self._output.write("\n".join(together), len(together))
                together, size = [], 0
            together.append(line)
            size += len(line) + 1
        if together:
            self._output.write("\n".join(together), len(together))

    def _line(self, told: Told) -> str:
        now, level = told[0], told[1].level
        until, head, tail = self._templates.get(level, _NO_TEMPLATE)
        if now >= until:
            head, tail = self._template(level, time.time() - (time.monotonic() - now))
            self._templates[level] = now + RESOLUTION, head, tail
        return head + _message(*told) + tail

    def _template(self, level: int, created: float) -> tuple[str, str]:
        assert self._output is not None
        record = self._records[level]
        record.created, record.msecs = created, created % 1 * 1000
        record.process = os.getpid()  # where conversations have processes of their own
        head, _, tail = self._output.format(record).partition(_MARK)
        return head, tail


def _message(
    now: float,
    ending: Ending,
    address: Any,
    opened: float,
    messages: int | None,
    received: int,
    sent: int,
    reason: str,
) -> str:
    peer = show_peer(address) if type(address) is tuple else address
    seconds = now - opened
    # Our own words, never the peer's.
    why = "" if not reason else f' reason="{reason}"' if " " in reason else f" reason={reason}"
    if messages is None:
        # What a raw handler receives and sends, nobody sees.
        return f"{peer} {ending.word} messages=- received=- sent=- seconds={seconds:.3f}{why}"
    return f"{peer} {ending.word} messages={messages} received={received} sent={sent} seconds={seconds:.3f}{why}"


def _only_output(logger: logging.Logger) -> Output | None:
    """The handler of `logger`, if there is just one, and it is ours, and nothing filters what it gets."""
    handlers: list[logging.Handler] = []
    filters = list(logger.filters)
    each: logging.Logger | None = logger
    while each is not None:
        handlers += each.handlers
        each = each.parent if each.propagate else None
    if len(handlers) != 1 or filters or handlers[0].filters:
        return None
    (output,) = handlers
    return output if type(output) is Output and type(output.formatter) is LineFormatter else None
