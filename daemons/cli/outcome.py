"""Outcome of commands: exceptions become one line on standard error and an exit code."""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from daemons.clients import tools
from daemons.operating import lifecycle
from daemons.printable import escape
from daemons.serving.listening.listen import ListenError
from daemons.settings.complaints import ConfigurationError

#: Exit code after SIGINT, 128 + 2, as in a shell.
INTERRUPTED = 130

#: Third-party package → the extra of this package that installs it.
EXTRAS = dict.fromkeys(("bs4", "hishel", "httpcore2", "httpx2", "lxml", "protego", "soupsieve"), "fetch")
EXTRAS["pymemcache"] = "cache"


class Command:
    """One command line; `prefix` begins each line of an error, and `report` prints one line."""

    prefix = "daemons: "
    report: Callable[[str], None]

    def __init__(self) -> None:
        self.report = report

    def carry_out(self, action: Callable[[], int]) -> int:
        """Run `action` and flush its output; return its exit code.  Report an exception, and return its exit code.

        The SystemExit of argparse is raised.  Ctrl-C and a closed pipe have exit codes, but are not reported."""
        line = ""
        try:
            try:
                code = action()
            except SystemExit:
                flush()
                raise
            except (KeyboardInterrupt, BrokenPipeError):
                raise
            except Exception as error:
                code, line = _outcome_of(error)
                with suppress(OSError, ValueError):  # only the first error is reported
                    flush()
            else:
                flush()
                _discard(2)
                return code
        except KeyboardInterrupt:
            code, line = INTERRUPTED, ""
        except BrokenPipeError:  # `daemons list | head -1`
            code = lifecycle.BUG
        except Exception as error:
            code, line = _outcome_of(error)
        _discard(1)
        for each in line.split("\n") if line else ():  # other line ends may come from a peer
            self.report(self.prefix + escape(each))
        _discard(2)
        return code


def report(line: str) -> None:
    """Write a line to standard error; ignore errors."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _discard(2)


def flush() -> None:
    """Flush standard output.  Raises `OSError`, which names it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def _outcome_of(error: Exception) -> tuple[int, str]:
    """Return the exit code and the error lines of an exception."""
    match error:
        case ConfigurationError():
            return lifecycle.WRONG_CONFIGURATION, "\n".join(error.complaints)
        case ListenError():
            return lifecycle.SYSTEM_REFUSED, str(error)
        case tools.ToolError():
            return tools.FAILED, " ".join(str(error).split("\n"))
        case ModuleNotFoundError() if (package := (error.name or "").partition(".")[0]) in EXTRAS:
            extra = EXTRAS[package]
            return tools.FAILED, f"the package {package} is not installed: pip install 'camelot-daemons[{extra}]'"
        case FileNotFoundError() if not error.filename and not _has_working_directory():
            return tools.FAILED, "the working directory has been deleted; change to another one"
        case OSError():
            return tools.FAILED, f"{error.filename or 'standard output'}: {tools.reason_of(error)}"
        case UnicodeError():
            return tools.FAILED, f"text that cannot be encoded: {error}".split("\n")[0]
        case _:
            # A traceback does not help users; developers run Python in development mode (-X dev).
            where = f"\n{traceback.format_exc()}" if sys.flags.dev_mode else ""
            text = escape(f"{type(error).__name__}: {error}"[:500])
            return lifecycle.BUG, f"a bug: {text} (python -X dev -m daemons … shows the traceback){where}"


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _discard(descriptor: int) -> None:
    """Flush a standard stream; if it cannot be written, discard its buffer, which would fail again at exit."""
    stream = (sys.stdout, sys.stderr)[descriptor - 1]
    poll = select.poll()
    try:
        poll.register(descriptor, select.POLLOUT)
        if not poll.poll(0):  # a full pipe, which its reader does not empty
            raise BlockingIOError
        stream.flush()
    except (OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
        with suppress(OSError, ValueError):
            stream.flush()
