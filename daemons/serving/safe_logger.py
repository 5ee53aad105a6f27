"""Logger that does not raise, for the accept loop."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from typing import Any


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose methods do not raise.

    The handlers of `logging` handle their own errors, but an exception of a custom filter or handler propagates out of
    `Logger.error`.  Here its traceback is printed to standard error instead.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As `Logger.log`; the other methods call this one."""
        try:
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})
        except Exception:
            with suppress(Exception):
                traceback.print_exc(file=sys.stderr)
