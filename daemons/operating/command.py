"""The command ``daemons``: run, stop, ask, call, cert, cgi, check, list, show; and the tools of
`daemons.clients.tools`."""

from __future__ import annotations

import argparse
import errno
import io
import os
import platform
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemons.clients import calling, tools
from daemons.clients.arguments import seconds
from daemons.operating import diagnostics, ini, lifecycle, outcome
from daemons.operating.complaints import ConfigurationError
from daemons.operating.ini import Override
from daemons.operating.settings import Settings
from daemons.serving import signals

#: Options that mean a key of [daemon].
KEYS = ("host", "port", "engine", "processes")

#: What is one, and no word: neither ``-`` nor a number below 0.
_OPTION = re.compile(r"-(?![0-9.]|$)")


class _Set(argparse.Action):
    """Collects ``--port N`` and ``--set SECTION.KEY=VALUE`` in the order in which they were given."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        overrides = [*namespace.overrides]
        if self.dest == "set":
            try:
                overrides.append(ini.parse_override(values))
            except ValueError as error:
                parser.error(str(error))
        else:
            overrides.append(Override(option or "", "daemon", self.dest, values))
        namespace.overrides = overrides


class _Version(argparse.Action):
    """Prints the versions of the suite and of Python."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version  # slow to import, and seldom needed

        try:
            own = version("camelot-daemons")
        except PackageNotFoundError:
            own = "(not installed)"
        print(f"daemons {own}, Python {platform.python_version()}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="daemons",
        description="Classic network daemons: run one, ask one, check and show their settings; and tools.",
        epilog="Exit codes: 0 ended as asked, 1 a failure, 2 a wrong command line, "
        "100 a wrong configuration, or a module named in it that fails, 111 the system refused, 130 Ctrl-C.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version, and exit")
    conf = argparse.ArgumentParser(add_help=False)
    conf.add_argument(
        "--conf", type=Path, metavar="DIR", help="the folder of the ini files; else $DAEMONS_CONF, else ./conf"
    )
    conf.add_argument("--run", type=Path, metavar="DIR", help="the folder of pidfiles and Unix sockets; else run/")
    named = argparse.ArgumentParser(add_help=False, parents=[conf])
    named.add_argument("name", metavar="NAME", help="the daemon: the NAME of conf/NAME.ini")
    changed = argparse.ArgumentParser(add_help=False)
    for key in KEYS:
        changed.add_argument(f"--{key}", action=_Set, metavar=key.upper(), help=f"the {key} of [daemon]")
    changed.add_argument(
        "--set", action=_Set, metavar="SECTION.KEY=VALUE", help="any key of any section; the last one wins"
    )
    changed.set_defaults(overrides=[])

    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=tools.CommandParser)

    def add(word: str, help_text: str, *parents: Any) -> argparse.ArgumentParser:
        return commands.add_parser(word, help=help_text, description=help_text, parents=[*parents])

    run = add("run", "serve until told to stop (this is what supervisord starts)", named, changed)
    ways = run.add_mutually_exclusive_group()
    ways.add_argument("--detach", action="store_true", help="in the background, without supervisord")
    ways.add_argument(
        "--inetd",
        choices=("wait", "nowait"),
        help="started by inetd: descriptor 0 is the listening socket (wait), or one connection (nowait); "
        "the log goes to logs/NAME.inetd.log",
    )
    add("stop", "stop a daemon that was started with --detach, and wait for its end", named)
    ask = add("ask", "hold a conversation with a daemon, and print what it says", named)
    ask.add_argument("host", nargs="?", metavar="HOST", help="where it is; else, or with -, the address in its ini")
    ask.add_argument("-p", dest="port", metavar="PORT", help="its port; else the one in its ini")
    ask.add_argument("-t", dest="timeout", metavar="SECONDS", type=seconds, default=10.0, help="to wait; else 10")
    ask.add_argument(
        "--cafile",
        metavar="FILE",
        help="for tls://: the CA that must have signed its certificate; else run/tls/ca.pem where that is, else "
        "those that this system trusts",
    )
    ask.add_argument(
        "--stdin", action="store_true", help="say what comes on standard input, and print what comes back as it is"
    )
    ask.add_argument(
        "-v", "--verbose", action="store_true", help="tell on standard error of the socket, and of each wait"
    )
    ask.add_argument(
        "words", nargs="*", default=[], metavar="WORDS", help="what to say; else the questions it is known for"
    )
    call = add("call", "call a function that a daemon, or somebody else, publishes, and print its result", conf)
    calling.add_arguments(call)
    cert = add("cert", "make a CA and a server certificate signed by it, for trying TLS", conf)
    cert.add_argument(
        "--host",
        dest="hosts",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or address that clients dial, besides localhost, 127.0.0.1 and ::1; may be given several times",
    )
    cert.add_argument("--out", type=Path, metavar="DIR", help="where to; else run/tls")
    cert.add_argument("--days", type=int, default=90, metavar="N", help="for how long it is valid; else 90")
    cert.add_argument("--force", action="store_true", help="overwrite what is there")
    add("cgi", "answer one request with a WSGI application, as CGI (this is what a web server starts)", named, changed)
    check = add("check", "check every ini and supervisord.conf; list all faults at once", conf)
    check.add_argument(
        "names", metavar="NAME", nargs="*", help="only the inis of these daemons, and no supervisord.conf"
    )
    check.add_argument(
        "--shared",
        action="store_true",
        help="only for faults that keep every daemon from starting: in defaults.ini, logging.ini, supervisord.conf",
    )
    add("list", "every daemon: what it is, where it listens, its engine", conf)
    stats = add("stats", "what a daemon has done and is doing, read without asking it", conf)
    stats.add_argument("name", nargs="?", metavar="NAME", help="the daemon; else one line for each of them")
    stats.add_argument("--json", action="store_true", help="for programs; docs/metrics.md tells the keys")
    add("show", "the settings of a daemon as they come out, and where each was set", named, changed)
    tools.add_words(commands)
    return top


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
        signals.begin()
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
    return f"daemons {options.command}: " if about is None else f"{calling.without_password(about)}: "


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
        from daemons.clients import call

        return call.run(options, conf)
    if options.command == "cert":
        from daemons.operating import authority

        return authority.run(options, conf)
    if getattr(options, "inetd", None):
        from daemons.operating import inetd

        return inetd.run(conf, options)
    if options.command in ("check", "list"):
        # Imported where they are needed: `daemons run` is what starts, and it starts without them.
        from daemons.operating import inspection

        if options.command == "list":
            return inspection.show_all(conf)
        return inspection.check_shared(conf) if options.shared else inspection.check(conf, options.run, options.names)
    if options.command == "stats" and options.name is None:
        from daemons.operating import stats_report

        if not (names := ini.names(conf)):
            raise ConfigurationError([f"{conf}: no daemon's ini is in this folder; name another with --conf DIR"])
        return stats_report.show_all(ini.run_folder(conf, options.run), names, options.json)
    if options.command == "stop":
        from daemons.operating import detach

        return detach.stop(conf, options.name, options.run)
    return _one(ini.read(conf, options.name, getattr(options, "overrides", ()), options.run), options)


def _one(settings: Settings, options: argparse.Namespace) -> int:
    match options.command:
        case "run" if not options.detach:
            return lifecycle.run(settings)
        case "run":
            from daemons.operating import detach

            return detach.run(settings)
        case "cgi":
            from daemons.operating import cgi

            return cgi.run(settings)
        case "stats":
            from daemons.operating import stats_report

            return stats_report.show(settings, options.json)
        case "show":
            from daemons.operating import inspection

            return inspection.show(settings)
        case _:
            from daemons.clients import ask

            return ask.ask(settings, options)
