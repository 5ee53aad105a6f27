"""What a caller is told of a call that failed, and what the log is told."""

from __future__ import annotations

import logging
import secrets

from daemons.rpc.methods import ANSWERS
from daemons.serving.guards.limits import TokenBucket

log = logging.getLogger(__name__)

#: Characters of an exception's text that a caller is told.
LONGEST = 1000

#: Tracebacks written, per second.  Formatting one takes longer than reading its call, and a batch has a thousand calls.
TRACEBACKS = 30.0

_tracebacks = TokenBucket(TRACEBACKS)


def told(error: BaseException, method: str) -> str:
    """What the caller of `method` is told of `error`, which it has raised; tells the log.

    An exception by which a method says no, one of `ANSWERS`, is told as Python's own server tells all of them:
    ``<class 'ValueError'>:math domain error``.  Of any other, whose text may be anybody's secret, the caller is told an
    id, under which the log has the traceback."""
    if (text := said(error, method)) is not None:
        return f"{type(error)}:{text}"[:LONGEST]
    return f"{method} has failed; the daemon's log tells why, under fault {numbered(error, method)}"[:LONGEST]


def said(error: BaseException, method: str) -> str | None:
    """The text of an exception by which `method` says no, which the log is told as well; None: it is another."""
    if type(error) not in ANSWERS:
        return None
    try:
        text = str(error)[:LONGEST]
    except Exception:
        return None  # an argument of it cannot be shown
    log.info("%s: %s: %s", method, type(error), text, exc_info=error if log.isEnabledFor(logging.DEBUG) else None)
    return text


def numbered(error: BaseException, method: str) -> str:
    """Log `error`, which `method` has raised, and return the id of the entry.  Beyond `TRACEBACKS` the entry has the
    exception's class and the line that raised it in place of the traceback."""
    name = secrets.token_hex(4)
    if not _tracebacks.wait():
        _tracebacks.take()
        log.error("%s has failed: fault %s", method, name, exc_info=error)
        return name
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    log.error("%s has failed: fault %s: %s%s", method, name, type(error).__qualname__, where)
    return name
