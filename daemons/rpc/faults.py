"""Failed calls: the text sent to the caller, and the log entry."""

from __future__ import annotations

import logging
import secrets

from daemons.rpc.methods import REPORTED_ERRORS
from daemons.serving.guards.limits import TokenBucket

log = logging.getLogger(__name__)

#: Maximum number of characters of an exception's text that are sent to the caller.
LONGEST = 1000

#: Tracebacks logged per second.  Formatting one takes longer than reading its call, and a batch has a thousand calls.
TRACEBACKS = 30.0

_tracebacks = TokenBucket(TRACEBACKS)


def fault_text(error: BaseException, method: str) -> str:
    """Log `error`, raised by `method`, and return the text for the caller.

    An exception in `REPORTED_ERRORS` is reported in the format of Python's own server,
    ``<class 'ValueError'>:math domain error``.  The text of any other exception may be confidential, so the caller gets
    the id of the log entry with the traceback."""
    if (text := reported_text(error, method)) is not None:
        return f"{type(error)}:{text}"[:LONGEST]
    return f"{method} failed: see fault {log_fault(error, method)} in the daemon's log"[:LONGEST]


def reported_text(error: BaseException, method: str) -> str | None:
    """Log an exception in `REPORTED_ERRORS` and return its text; return None for any other exception."""
    if type(error) not in REPORTED_ERRORS:
        return None
    try:
        text = str(error)[:LONGEST]
    except Exception:
        return None  # the repr of one of its arguments failed
    log.info("%s: %s: %s", method, type(error), text, exc_info=error if log.isEnabledFor(logging.DEBUG) else None)
    return text


def log_fault(error: BaseException, method: str) -> str:
    """Log `error`, raised by `method`, and return the id of the entry.

    Above `TRACEBACKS` per second, the entry has the exception's class and the line that raised it instead of the
    traceback."""
    name = secrets.token_hex(4)
    if not _tracebacks.wait():
        _tracebacks.take()
        log.error("%s failed: fault %s", method, name, exc_info=error)
        return name
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    log.error("%s failed: fault %s: %s%s", method, name, type(error).__qualname__, where)
    return name
