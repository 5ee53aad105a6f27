"""Errors in the module of a service: one line that names the author's line of code."""

from __future__ import annotations

import importlib
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from daemons.settings.complaints import ConfigurationError

log = logging.getLogger(__name__)

#: Files of the suite.
_SUITE = Path(__file__).parents[2]


@contextmanager
def reported_as_complaint(what: str, when: str, where: str, base: Path) -> Iterator[None]:
    """Convert every exception of the block into a `ConfigurationError` of one line.

    That includes sys.exit() and os._exit(), which would end the daemon silently.  The traceback is logged at the level
    DEBUG.

    Args:
        what: the name of the author's module or class
        when: the action of the block, as a clause for the message: ``it was imported``
        where: the beginning of the message
        base: the project folder
    """
    try:
        with _exit_raised():
            yield
    except (ConfigurationError, KeyboardInterrupt):
        raise
    except _ProcessExit as error:
        raise ConfigurationError([f"{where}: {what} called os._exit({error.code!r}) while {when}"]) from error
    except SystemExit as error:
        raise ConfigurationError([f"{where}: {what} called sys.exit({error.code!r}) while {when}"]) from error
    except BaseException as error:
        log.debug("%s failed while %s", what, when, exc_info=error)
        place = _place(error, base)
        raise ConfigurationError([f"{where}: {place}{type(error).__name__}: {_reason(error)}"]) from error


class _ProcessExit(SystemExit):
    """os._exit() was called."""


@contextmanager
def _exit_raised() -> Iterator[None]:
    """Let os._exit() raise `_ProcessExit` in this process during the block.

    The signal handlers of the suite are not affected: they have a reference to the original function."""
    process, leave = os.getpid(), os._exit
    over = False

    def refuse(status: int) -> NoReturn:
        # The code may keep this function, or call it in a child process.
        if over or os.getpid() != process:
            leave(status)
        raise _ProcessExit(status)

    os._exit = refuse
    try:
        yield
    finally:
        over = True
        os._exit = leave


def _reason(error: BaseException) -> str:
    try:
        return (error.msg if isinstance(error, SyntaxError) else str(error)) or "no reason given"
    except Exception as failure:  # the exception class may be the author's
        return f"no reason given, as its __str__ failed: {type(failure).__name__}"


def _place(error: BaseException, base: Path) -> str:
    """Return ``knights.py line 12: ``, in the author's code if possible; "" if unknown."""
    if isinstance(error, SyntaxError) and error.filename:
        line = f" line {error.lineno}" if error.lineno else ""  # 0 for an unknown encoding
        return f"{_shown(error.filename, base)}{line}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _imports(frame.filename)]
    own = [frame for frame in frames if _is_own(Path(frame.filename), base)]
    if own:
        return f"{_shown(own[-1].filename, base)} line {own[-1].lineno}: "
    # Frames of the suite are those of the caller.
    others = [frame for frame in frames if not _in_suite(Path(frame.filename))]
    return f"{others[-1].filename} line {others[-1].lineno}: " if others else ""


def _is_own(file: Path, base: Path) -> bool:
    return file.is_relative_to(base) and not _in_suite(file) and ".venv" not in file.relative_to(base).parts


def _in_suite(file: Path) -> bool:
    """Return whether the file is part of the suite, except daemons/NAME.py, which may be the author's."""
    return file.is_relative_to(_SUITE) and len(file.relative_to(_SUITE).parts) > 1


def _imports(file: str) -> bool:
    """Return whether the file is part of Python's import system."""
    return file.startswith("<frozen ") or file == importlib.__file__


def _shown(file: str, base: Path) -> str:
    path = Path(file)
    return str(path.relative_to(base)) if path.is_relative_to(base) else file
