"""The access line: one for each conversation, ending in a word from the table of endings.

Through a `logging.LogRecord` the line is the dearest thing about a short conversation: about 15 µs, a
quarter of what all the rest costs.  So the shared configuration is asked once whether, where and in which
format such a line goes; from then on lines are made from a template.  Under `loop`, where one thread ends
all conversations, they are written together, up to 250 ms late.

A configuration that does more with the line than to print it (a handler or filter that is not ours) gets
its records as ever.
"""

from __future__ import annotations

import logging
import time

from daemons.operating.logs import LINE_LIMIT, LineFormatter, Output
from daemons.serving.connection import Connection
from daemons.serving.endings import Ending

#: Seconds that a line may wait for company, and lines that are too many to wait any longer.
DELAY = 0.25
BATCH = 400

#: Seconds that the time in a template stays the time: the clock of a log need not be better.
RESOLUTION = 0.01

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
        self._lines: list[str] = []
        #: When (monotonic) the first of the lines that wait was due to be written.
        self.due = float("inf")
        self.configure()

    def configure(self) -> None:
        """Read the logging configuration; again when it has changed."""
        self._enabled = {ending: self._logger.isEnabledFor(ending.level) for ending in Ending}
        self._output = _only_output(self._logger)
        #: By level: until when the template holds, and what stands before and after the message.
        self._templates: dict[int, tuple[float, str, str]] = {}

    def tell(self, connection: Connection) -> None:
        """Write the line of a conversation that has ended."""
        ending = connection.ending or Ending.DONE
        if not self._enabled[ending]:
            return
        if self._output is None:
            self._logger.log(ending.level, "%s", _message(connection, ending))
            return
        now = time.monotonic()
        until, head, tail = self._templates.get(ending.level, _NO_TEMPLATE)
        if now >= until:
            head, tail = self._template(ending.level)
            self._templates[ending.level] = now + RESOLUTION, head, tail
        line = head + _message(connection, ending) + tail
        if not self._together:
            self._output.write(line)
            return
        self._lines.append(line)
        if len(self._lines) == 1:
            self.due = now + DELAY
        elif len(self._lines) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits, in as few writes as keep each under `LINE_LIMIT`."""
        lines, self._lines = self._lines, []
        self.due = float("inf")
        if self._output is None:
            return
        together: list[str] = []
        size = 0
        for line in lines:
            # Access lines are ASCII but for what a format puts around them; room is left for that.
            if size + 2 * len(line) > LINE_LIMIT:
                self._output.write("\n".join(together), len(together))
                together, size = [], 0
            together.append(line)
            size += len(line) + 1
        if together:
            self._output.write("\n".join(together), len(together))

    def _template(self, level: int) -> tuple[str, str]:
        assert self._output is not None
        record = self._logger.makeRecord(self._logger.name, level, "", 0, _MARK, (), None)
        head, _, tail = self._output.format(record).partition(_MARK)
        return head, tail


def _message(connection: Connection, ending: Ending) -> str:
    seconds = time.monotonic() - connection.opened
    # A word of our own, never the peer's.
    reason = f" reason={connection.reason}" if connection.reason else ""
    if connection.messages is None:
        # What a raw handler receives and sends, nobody sees.
        return f"{connection.peer} {ending.word} messages=- received=- sent=- seconds={seconds:.3f}{reason}"
    return (
        f"{connection.peer} {ending.word} messages={connection.messages} received={connection.received} "
        f"sent={connection.sent} seconds={seconds:.3f}{reason}"
    )


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
