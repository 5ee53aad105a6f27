"""The command ``daemons``: run, stop, ask, call, cert, cgi, check, list, show; and the tools of
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

#: What is one, and no word: neither ``-`` nor a number below 0.
_OPTION = re.compile(r"-(?![0-9.]|$)")


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, parsed.  argparse gives HOST and WORDS what stands before the first option alone
    (bpo-15112): for ``ask`` and ``call`` what comes after one is added here."""
    top = parser()
    options, rest = top.parse_known_args(arguments)
    if options.command is None and not rest:
        # As git does: the help, and a failure, since a script that lost its words has not done what it should.
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
    """Carry out one command line; returns the exit code."""
    _open_standard_streams()
    if arguments is None:
        # Whoever started us may ignore or block it, which outlives execve(2): then no child could be waited for.
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
            command.say = diagnostics.say  # standard error may be the log
        return _carry_out(options)

    code = command.carry_out(action)
    if arguments is None and not serves and any(not thread.daemon for thread in threading.enumerate()[1:]):
        # Python would wait for threads that the module of a daemon has started when it was imported, for ever.
        os._exit(code)
    return code


def _prefix(options: argparse.Namespace) -> str:
    """Return what an error begins with: the daemon that it is about, or the command."""
    about = None if options.command in tools.TOOLS else getattr(options, "name", getattr(options, "target", None))
    return f"daemons {options.command}: " if about is None else f"{call_arguments.without_password(about)}: "


def _open_standard_streams() -> None:
    """Open those that are closed, so that no listener and no file gets the number of one: standard output in a way in
    which each write fails (EBADF), as if it were still closed, and the others at /dev/null.  Text that the locale's
    encoding does not have is written as escapes, and never raises `UnicodeError`."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR if descriptor == 2 else os.O_RDONLY)  # the lowest that is free: this one
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _make_output_optional() -> None:
    """Let a command whose success does not depend on what it prints go on without a standard output."""
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
        # What a service prints is in the log at once: workers, and children of `forks`, end without flushing.
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
        # Imported where they are needed: `daemons run` is what starts, and it starts without them.
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
