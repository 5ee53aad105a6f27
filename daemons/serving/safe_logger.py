"""The log of the accept loop, which a logger that fails must not end."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from typing import Any


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose methods do not raise.

    Handlers deal with their own errors, but what a filter or a handler of somebody's own raises comes out
    of `Logger.error` itself.  Here it is told on standard error, and that is all.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As `Logger.log`; the other methods come down to this one."""
        try:
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})
        except Exception:
            with suppress(Exception):
                traceback.print_exc(file=sys.stderr)
