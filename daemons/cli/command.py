"""Entry point of the command ``daemons``: run, stop, ask, call, cert, cgi, check, list, show, stats, and the tools of
`daemons.clients.tools`."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from daemons.cli import outcome
from daemons.cli.parser import parser
from daemons.clients import tools
from daemons.clients.rpc import call_arguments
from daemons.operating import diagnostics, lifecycle
from daemons.operating.config import ini
from daemons.operating.config.sections import Settings
from daemons.serving import signals
from daemons.settings.complaints import ConfigurationError

#: An option, as opposed to ``-`` and negative numbers.
_OPTION = re.compile(r"-(?![0-9.]|$)")


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    argparse fills HOST and WORDS only from arguments before the first option (bpo-15112).  For ``ask`` and ``call``,
    this function adds the arguments after it."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    if options.command is None and not rest:
        # Print the help and fail, as git does: a script that passes no arguments by mistake must not succeed.
        top.print_help()
        top.exit(lifecycle.USAGE)
    end = rest.index("--") if "--" in rest else len(rest)
    if rest and (options.command not in ("ask", "call") or any(_OPTION.match(word) for word in rest[:end])):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    rest = [*rest[:end], *rest[end + 1 :]]
    if options.command == "call":
        options.words = [*options.words, *rest]
    elif rest:
        options.words = [*([] if options.host is None else [options.host]), *options.words, *rest]
        options.host = options.words.pop(0)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit code."""
    _open_standard_streams()
    if arguments is None:
        # The parent process may ignore or block SIGCHLD, which execve(2) keeps: then waitpid(2) would fail.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
    if arguments is None and sys.argv[1:2] == ["run"] and "--detach" not in sys.argv:
        signals.install_startup_handlers()
    command = outcome.Command()
    serves = True

    def action() -> int:
        nonlocal serves
        options = _parsed(arguments)
        serves = options.command == "run"
        command.prefix = _prefix(options)
        if options.command == "run":
            command.report = diagnostics.report  # standard error may be the log
        return _carry_out(options)

    code = command.carry_out(action)
    if arguments is None and not serves and any(not thread.daemon for thread in threading.enumerate()[1:]):
        # Python would wait without a limit for threads that a daemon's module has started at its import.
        os._exit(code)
    return code


def _prefix(options: argparse.Namespace) -> str:
    """Return the beginning of an error line: the daemon, or the command."""
    subject = None if options.command in tools.TOOLS else getattr(options, "name", getattr(options, "target", None))
    return f"daemons {options.command}: " if subject is None else f"{call_arguments.without_password(subject)}: "


def _open_standard_streams() -> None:
    """Open closed standard streams, so that no listener or file gets their descriptors, and escape unencodable text.

    Closed streams are opened at /dev/null; writes to standard output still fail with EBADF."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(
                os.devnull, os.O_RDWR if descriptor == 2 else os.O_RDONLY
            )  # open(2) returns the lowest free descriptor, this one
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _make_output_optional() -> None:
    """Send the output to /dev/null if standard output is closed, for commands that do not depend on it."""
    try:
        os.write(1, b"")
    except OSError as error:
        if error.errno == errno.EBADF:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.close(null)


def _carry_out(options: argparse.Namespace) -> int:
    if options.command in tools.TOOLS:
        code: int = options.run_tool(options)
        return code
    conf = options.conf or Path(os.environ.get("DAEMONS_CONF") or "conf")
    if options.command in ("run", "stop"):
        _make_output_optional()
    if options.command == "run" and isinstance(sys.stdout, io.TextIOWrapper):
        # Output of a service goes to the log at once: workers and children of `forks` exit without flushing.
        sys.stdout.reconfigure(line_buffering=True)
    if options.command == "call":
        from daemons.clients.rpc import call

        return call.run(options, conf)
    if options.command == "cert":
        from daemons.cli import make_cert

        return make_cert.run(options, conf)
    if getattr(options, "inetd", None):
        from daemons.cli import inetd

        return inetd.run(conf, options)
    if options.command in ("check", "list"):
        # Imported here, because `daemons run` does not need them and must start fast.
        from daemons.cli import inspection

        if options.command == "list":
            return inspection.show_all(conf)
        return inspection.check_shared(conf) if options.shared else inspection.check(conf, options.run, options.names)
    if options.command == "stats" and options.name is None:
        from daemons.cli import stats_report

        if not (names := ini.names(conf)):
            raise ConfigurationError([f"{conf}: no daemon's ini is in this folder; name another with --conf DIR"])
        return stats_report.show_all(ini.run_folder(conf, options.run), names, options.json)
    if options.command == "stop":
        from daemons.cli import detach

        return detach.stop(conf, options.name, options.run)
    return _one(ini.read(conf, options.name, getattr(options, "overrides", ()), options.run), options)


def _one(settings: Settings, options: argparse.Namespace) -> int:
    match options.command:
        case "run" if not options.detach:
            return lifecycle.run(settings)
        case "run":
            from daemons.cli import detach

            return detach.run(settings)
        case "cgi":
            from daemons.cli import cgi

            return cgi.run(settings)
        case "stats":
            from daemons.cli import stats_report

            return stats_report.show(settings, options.json)
        case "show":
            from daemons.cli import inspection

            return inspection.show(settings)
        case _:
            from daemons.clients import ask

            return ask.ask(settings, options)
