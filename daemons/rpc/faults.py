"""What a caller is told of a call that failed, and what the log is told."""

from __future__ import annotations

import logging
import secrets

from daemons.rpc.methods import ANSWERS

log = logging.getLogger(__name__)

#: Characters of an exception's text that a caller is told.
LONGEST = 1000


def told(error: BaseException, method: str) -> str:
    """What the caller of `method` is told of `error`, which it has raised; tells the log.

    An exception by which a method says no, one of `ANSWERS`, is told as Python's own server tells all of them:
    ``<class 'ValueError'>:math domain error``.  Of any other, whose text may be anybody's secret, the caller is told an
    id, under which the log has the traceback."""
    if type(error) in ANSWERS:
        try:
            text = f"{type(error)}:{error}"[:LONGEST]
        except Exception:
            pass  # an argument of it cannot be shown
        else:
            log.info("%s: %s", method, text, exc_info=error if log.isEnabledFor(logging.DEBUG) else None)
            return text
    name = secrets.token_hex(4)
    log.error("%s has failed: fault %s", method, name, exc_info=error)
    return f"{method} has failed; the daemon's log tells why, under fault {name}"[:LONGEST]
