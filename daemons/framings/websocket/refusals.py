"""Errors for invalid frames.  Each has as `apology` a Close, which the decoder frames."""

from __future__ import annotations

from daemons.framings.base import FramingError, Malformed, Oversize
from daemons.framings.websocket.messages import INVALID_DATA, PROTOCOL_ERROR, TOO_BIG, Close


def malformed(text: str) -> FramingError:
    """Return the error for a frame that violates the protocol.  `text` is for the log."""
    return _refusal(Malformed(text), PROTOCOL_ERROR)


def invalid_text(part: str) -> FramingError:
    """Return the error for a part of the input that should be UTF-8."""
    return _refusal(Malformed(f"{part} is not UTF-8"), INVALID_DATA)


def too_big(text: str) -> FramingError:
    """Return the error for a message that exceeds a limit."""
    return _refusal(Oversize(text), TOO_BIG)


def _refusal(error: FramingError, code: int) -> FramingError:
    error.apology = Close(code)
    return error
