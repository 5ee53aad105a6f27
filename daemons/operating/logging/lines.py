"""Fast path for high-volume log lines with a fixed format, one for each conversation or request.

A `logging.LogRecord` costs about 15 µs, a quarter of the rest of a short conversation.  So level, output and format are
read once from the logging configuration, and lines are formatted from a template.  Under `loop`, where one thread ends
all conversations, lines are written in batches, up to 250 ms late: a line in a batch takes a third of the time.

A configuration with a foreign handler or filter gets log records as usual.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from daemons.operating.logging.logs import LineFormatter, Output

#: Maximum delay of a line in a batch, in seconds, and maximum number of lines in a batch.
DELAY = 0.25
MAX_LINES = 400

NEVER = float("inf")

#: Resolution in seconds of the time in a line; a template is valid for so long.
RESOLUTION = 0.01

#: An event to log: its time (monotonic), its level, and the values of its line.
Event: TypeAlias = tuple[float, int, tuple[object, ...]]

_NO_TEMPLATE = (0.0, "")
_MARK = "\N{REPLACEMENT CHARACTER}message"

#: Attributes of a record, besides time and process, that differ between lines of a logger.
_OF_RECORD = re.compile(r"relativeCreated|thread|taskName|processName|pathname|filename|module|lineno|funcName")


class Lines:
    """Writes lines of the logger `name` with one of `levels`.  Thread-safe.

    together
        Write lines in batches; the owner calls `flush` when they are `due`.
    """

    def __init__(self, name: str, levels: Iterable[int], *, together: bool = False) -> None:
        self.logger = logging.getLogger(name)
        self._levels = frozenset(levels)
        self._together = together
        #: Events of the current batch.
        self.waiting: deque[Event] = deque()
        #: When (monotonic) to flush the batch.
        self.due = NEVER
        self.configure()

    def form(self, now: float) -> str:
        """Return the ``%`` format of a message, valid from `now` (monotonic) for `RESOLUTION`.

        A message must be ASCII, and shorter than `LINE_LIMIT` of `daemons.operating.logging.logs`."""
        raise NotImplementedError

    def configure(self) -> None:
        """Read the logging configuration; call again after each change."""
        if self.waiting:
            self.flush()
        #: Level → whether it is enabled.
        self.enabled = {level: self.logger.isEnabledFor(level) for level in self._levels}
        self._output = _only_output(self.logger)
        #: Whether lines are batched: append events to `waiting`, then call `hold`.
        self.holds = self._together and self._output is not None
        #: Level → record for templates: creating it would take half of the time of a template.
        self._records = {
            level: self.logger.makeRecord(self.logger.name, level, "", 0, _MARK, (), None) for level in self._levels
        }
        #: Level → expiry (monotonic) and ``%`` format of a line.
        self._templates: dict[int, tuple[float, str]] = {}

    def put(self, event: Event) -> None:
        """Write one line immediately."""
        now, level, values = event
        if self._output is None:
            self.logger.log(level, "%s", self.form(now) % values)
        else:
            self._output.write(self._template(now, level)[1] % values)

    def hold(self, now: float) -> None:
        """Schedule a flush of the batch; flush at `now` (monotonic) if it is full."""
        # After the append: `flush` sets this to NEVER before it takes events.
        if self.due == NEVER:
            self.due = now + DELAY
        if len(self.waiting) >= MAX_LINES:
            self.flush()

    def flush(self) -> None:
        """Write the batch, in as few writes as the output allows."""
        self.due = NEVER
        if self._output is None:
            return
        waiting, take, limit = self.waiting, self.waiting.popleft, self._output.at_once
        together: list[str] = []
        size = 0
        known, until, template = -1, 0.0, ""
        while waiting:
            try:
                now, level, values = take()
            except IndexError:
                break  # another thread has taken it
            if level != known or now >= until:
                known = level
                until, template = self._template(now, level)
            line = template % values
            # Twice the length: the format may add non-ASCII text to the message.
            if size + 2 * len(line) > limit and together:
                self._output.write("\n".join(together))
                together, size = [], 0
            together.append(line)
            size += len(line) + 1
        if together:
            self._output.write("\n".join(together))

    def _template(self, now: float, level: int) -> tuple[float, str]:
        """Return the expiry (monotonic) and the ``%`` format of a line."""
        template = self._templates.get(level, _NO_TEMPLATE)
        if now >= template[0]:
            head, tail = self._around(level, time.time() - (time.monotonic() - now))
            template = self._templates[level] = now + RESOLUTION, head + self.form(now) + tail
        return template

    def _around(self, level: int, created: float) -> tuple[str, str]:
        """Return the text before and after a message, escaped for ``%``."""
        assert self._output is not None
        record = self._records[level]
        record.created, record.msecs = created, created % 1 * 1000
        record.process = os.getpid()  # may have changed after a fork
        head, _, tail = self._output.format(record).replace("%", "%%").partition(_MARK)
        return head, tail


def _only_output(logger: logging.Logger) -> Output | None:
    """Return the only handler of `logger` if it is an `Output` without filters; otherwise None."""
    handlers: list[logging.Handler] = []
    filters = list(logger.filters)
    each: logging.Logger | None = logger
    while each is not None:
        handlers += each.handlers
        each = each.parent if each.propagate else None
    if len(handlers) != 1 or filters or handlers[0].filters:
        return None
    (output,) = handlers
    if type(output) is not Output or type(output.formatter) is not LineFormatter:
        return None
    # A template cannot have the message twice, nor attributes that differ between records.
    record = logger.makeRecord(logger.name, logging.INFO, "", 0, _MARK, (), None)
    once = output.format(record).count(_MARK) == 1
    return output if once and not _OF_RECORD.search(output.formatter._fmt or "") else None
