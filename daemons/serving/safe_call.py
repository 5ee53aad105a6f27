"""Calls of code that must not end the loop."""

from __future__ import annotations

from collections.abc import Callable

from daemons.serving import signals
from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)


def call_safely(action: Callable[..., None], *args: object) -> None:
    """Call `action` and log its exception, so that callbacks and overrides cannot end the loop."""
    try:
        action(*args)
    except BaseException as error:
        if signals.is_from_handler(error):
            raise
        log.exception("%s failed", getattr(action, "__qualname__", action))
