"""Lines of which there are very many, and whose form is known beforehand: for each conversation, each request.

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
import re
import time
from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from daemons.operating.logging.logs import LineFormatter, Output

#: Seconds that a line may wait for company, and lines that are too many to wait any longer.
DELAY = 0.25
BATCH = 400

NEVER = float("inf")

#: Seconds that the time in a template stays the time: the clock of a log need not be better.
RESOLUTION = 0.01

#: What is told of an event: when (monotonic) that was, the level of its line, and the values in it.
Told: TypeAlias = tuple[float, int, tuple[object, ...]]

_NO_TEMPLATE = (0.0, "")
_MARK = "\N{REPLACEMENT CHARACTER}message"

#: Attributes of a record, other than the time and the process, that are not the same for all lines of a logger.
_OF_RECORD = re.compile(r"relativeCreated|thread|taskName|processName|pathname|filename|module|lineno|funcName")


class Lines:
    """Writes the lines of the logger `name`, whose records have one of these `levels`.

    together
        Hold lines back to write them in batches; whoever asks for this calls `flush` when they are `due`.

    Any thread may call any of it.
    """

    def __init__(self, name: str, levels: Iterable[int], *, together: bool = False) -> None:
        self.logger = logging.getLogger(name)
        self._levels = frozenset(levels)
        self._together = together
        #: What lines that wait will be made of.
        self.waiting: deque[Told] = deque()
        #: When (monotonic) the first of them was due to be written.
        self.due = NEVER
        self.configure()

    def form(self, now: float) -> str:
        """What ``%`` makes messages of, and of the values told, from `now` (monotonic) on for `RESOLUTION`.  A message
        is the line without what the format puts around it: in ASCII, and shorter than `LINE_LIMIT` of
        `daemons.operating.logging.logs`."""
        raise NotImplementedError

    def configure(self) -> None:
        """Read the logging configuration; again when it has changed."""
        if self.waiting:
            self.flush()
        #: By level, whether such lines are wanted.
        self.enabled = {level: self.logger.isEnabledFor(level) for level in self._levels}
        self._output = _only_output(self.logger)
        #: Whether lines wait for others: who has put some into `waiting` calls `hold`.
        self.holds = self._together and self._output is not None
        #: By level, what templates are made from: a new record for each would be half of their price.
        self._records = {
            level: self.logger.makeRecord(self.logger.name, level, "", 0, _MARK, (), None) for level in self._levels
        }
        #: By level: until when (monotonic) the template holds, and what ``%`` makes a line of.
        self._templates: dict[int, tuple[float, str]] = {}

    def put(self, told: Told) -> None:
        """Write a line at once."""
        now, level, values = told
        if self._output is None:
            self.logger.log(level, "%s", self.form(now) % values)
        else:
            self._output.write(self._template(now, level)[1] % values)

    def hold(self, now: float) -> None:
        """Have what waits written in a moment; or `now` (monotonic), where it is much."""
        # Only after it was put there: who flushes sets this to NEVER before taking what waits.
        if self.due == NEVER:
            self.due = now + DELAY
        if len(self.waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits, in as few writes as the output allows."""
        self.due = NEVER
        if self._output is None:
            return
        waiting, take, most = self.waiting, self.waiting.popleft, self._output.at_once
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
            # The lines are ASCII but for what a format puts around them; room is left for that.
            if size + 2 * len(line) > most and together:
                self._output.write("\n".join(together))
                together, size = [], 0
            together.append(line)
            size += len(line) + 1
        if together:
            self._output.write("\n".join(together))

    def _template(self, now: float, level: int) -> tuple[float, str]:
        """What ``%`` makes a line of, and until when (monotonic)."""
        template = self._templates.get(level, _NO_TEMPLATE)
        if now >= template[0]:
            head, tail = self._around(level, time.time() - (time.monotonic() - now))
            template = self._templates[level] = now + RESOLUTION, head + self.form(now) + tail
        return template

    def _around(self, level: int, created: float) -> tuple[str, str]:
        """What the format puts before a message, and behind it; for ``%``."""
        assert self._output is not None
        record = self._records[level]
        record.created, record.msecs = created, created % 1 * 1000
        record.process = os.getpid()  # where conversations have processes of their own
        head, _, tail = self._output.format(record).replace("%", "%%").partition(_MARK)
        return head, tail


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
    if type(output) is not Output or type(output.formatter) is not LineFormatter:
        return None
    # What a template cannot have: the same message twice, and what differs from one record to the next.
    record = logger.makeRecord(logger.name, logging.INFO, "", 0, _MARK, (), None)
    once = output.format(record).count(_MARK) == 1
    return output if once and not _OF_RECORD.search(output.formatter._fmt or "") else None
