"""Argument parser of ``daemons``."""

from __future__ import annotations

import argparse
import platform
from typing import Any

from daemons.clients import tools
from daemons.clients.arguments import nonempty, path, seconds
from daemons.clients.rpc import call_arguments
from daemons.operating.config import ini
from daemons.operating.config.ini import Override

#: Keys of [daemon] with an option of their own.
KEYS = ("host", "port", "engine", "processes")


class _Set(argparse.Action):
    """Collects ``--port N`` and ``--set SECTION.KEY=VALUE`` in their order."""

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
        from importlib.metadata import PackageNotFoundError, version  # slow to import, and rarely needed

        try:
            own = version("camelot-daemons")
        except PackageNotFoundError:
            own = "(not installed)"
        print(f"daemons {own}, Python {platform.python_version()}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    top = argparse.ArgumentParser(
        prog="daemons",
        description="Classic network daemons: run one, ask one, check and show their settings; and tools.",
        epilog="Exit codes: 0 ended as asked, 1 a failure, 2 a wrong command line, "
        "100 a wrong configuration, or a module named in it that fails, 111 the system refused, 130 Ctrl-C.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version, and exit")
    conf = argparse.ArgumentParser(add_help=False)
    conf.add_argument(
        "--conf", type=path, metavar="DIR", help="the folder of the ini files; else $DAEMONS_CONF, else ./conf"
    )
    conf.add_argument("--run", type=path, metavar="DIR", help="the folder of pidfiles and Unix sockets; else run/")
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

    run = add("run", "serve until a stop signal (started by supervisord)", named, changed)
    ways = run.add_mutually_exclusive_group()
    ways.add_argument("--detach", action="store_true", help="in the background, without supervisord")
    ways.add_argument(
        "--inetd",
        choices=("wait", "nowait"),
        help="started by inetd: descriptor 0 is the listening socket (wait), or one connection (nowait); "
        "the log goes to logs/NAME.inetd.log",
    )
    add("stop", "stop a daemon that was started with --detach, and wait for its end", named)
    ask = add("ask", "send messages to a daemon, and print the replies", named)
    ask.add_argument("host", nargs="?", metavar="HOST", help="its address; else, or with -, the address in its ini")
    ask.add_argument("-p", dest="port", metavar="PORT", help="its port; else the one in its ini")
    ask.add_argument("-t", dest="timeout", metavar="SECONDS", type=seconds, default=10.0, help="to wait; else 10")
    ask.add_argument(
        "--cafile",
        metavar="FILE",
        type=nonempty,
        help="for tls://: the CA that must have signed its certificate; else run/tls/ca.pem where that is, else "
        "those that this system trusts",
    )
    ask.add_argument("--stdin", action="store_true", help="send standard input, and print the received bytes unchanged")
    ask.add_argument("-v", "--verbose", action="store_true", help="log the socket, and each wait, on standard error")
    ask.add_argument(
        "words",
        nargs="*",
        default=[],
        metavar="WORDS",
        help="messages to send; else the example messages of the service",
    )
    call = add("call", "call a function published by a daemon or at a URL, and print its result", conf)
    call_arguments.add_arguments(call)
    cert = add("cert", "create a CA and a server certificate signed by it, to try TLS", conf)
    cert.add_argument(
        "--host",
        dest="hosts",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or address of the server, besides localhost, 127.0.0.1 and ::1; repeatable",
    )
    cert.add_argument("--out", type=path, metavar="DIR", help="output folder; else run/tls")
    cert.add_argument("--days", type=int, default=90, metavar="N", help="days of validity; else 90")
    cert.add_argument("--force", action="store_true", help="overwrite existing files")
    add("cgi", "respond to one request with a WSGI application over CGI (started by a web server)", named, changed)
    check = add("check", "check every ini and supervisord.conf; print all complaints", conf)
    check.add_argument(
        "names", metavar="NAME", nargs="*", help="only the inis of these daemons, and no supervisord.conf"
    )
    check.add_argument(
        "--shared",
        action="store_true",
        help="only faults that prevent every daemon from starting: in defaults.ini, logging.ini, supervisord.conf",
    )
    add("list", "list every daemon: listeners, engine, description", conf)
    stats = add("stats", "statistics of a daemon, read without its help", conf)
    stats.add_argument("name", nargs="?", metavar="NAME", help="the daemon; else one line for each of them")
    stats.add_argument("--json", action="store_true", help="print JSON; docs/metrics.md describes the keys")
    add("show", "print the settings of a daemon and their origins", named, changed)
    tools.add_words(commands)
    return top
