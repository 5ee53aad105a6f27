"""The tools: subcommands of ``daemons`` that need neither one of this suite's daemons nor a conf folder.

Each tool is one module with ``add_arguments(parser)`` and ``run(options)``, which returns the exit code.  The module is
imported only when its subcommand is used, so that `daemons run` starts without it.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from typing import Any, NamedTuple

from daemons.clients import arguments
from daemons.printable import escape

#: Exit codes of a tool; argparse itself exits with 2 for a wrong command line.
DONE, FAILED = 0, 1


class ToolError(Exception):
    """A tool failed; `daemons.cli.outcome` reports the message, which gives the reason."""


class Tool(NamedTuple):
    """A tool's module, and its help text: one sentence."""

    module: str
    help: str


TOOLS: dict[str, Tool] = {
    "password": Tool("daemons.cli.password", "add a user to a file for [protected], or change a password"),
    "ping": Tool("daemons.clients.net.ping", "check whether a TCP port of a host accepts connections"),
    "forward-reverse": Tool(
        "daemons.clients.dns.forward_reverse", "check that the reverse DNS of a host's addresses matches its name"
    ),
    "dns": Tool("daemons.clients.dns.records", "look up the A, AAAA, CNAME, MX and NS records of a name in the DNS"),
    "mx": Tool("daemons.clients.dns.mx", "list the mail servers of a domain in the order to try them"),
    "names": Tool(
        "daemons.clients.dns.names", "look up a host, a protocol and a port by the system's name service calls"
    ),
    "fetch": Tool("daemons.clients.web.fetch", "download an http or https URL, or upload to it"),
    "links": Tool("daemons.clients.web.links", "check a page for dead and moved links"),
    "scrape": Tool("daemons.clients.web.scrape", "extract values from a page, a form's result or a whole site"),
    "url": Tool("daemons.clients.web.url", "parse a URL, or resolve a reference against a base URL"),
    "mtu": Tool("daemons.clients.net.mtu", "discover the path MTU to a host"),
    "tls-report": Tool(
        "daemons.clients.net.tls_report", "show a TLS server's certificate, protocol version and cipher"
    ),
    "linecount": Tool("daemons.clients.rpc.linecount", "have an RPyC server count the lines of a local file"),
    "cache": Tool("daemons.clients.caching.cache", "read, store or remove a value in a cache, or show its statistics"),
    "squares": Tool("daemons.clients.caching.squares", "time a slow function behind a cache, ten times"),
    "hashing": Tool("daemons.clients.caching.hashing", "compare ways to distribute keys to the servers of a cache"),
    "whois": Tool("daemons.clients.dns.whois", "query a WHOIS server for the registration of a name"),
}


class CommandParser(argparse.ArgumentParser):
    """The parser of one subcommand; the parser of a tool gets its arguments from the tool's module on first use."""

    tool: Tool | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.complete()
        return super().parse_known_args(args, namespace)

    def complete(self) -> None:
        """Add the arguments of the tool, if this parser has a tool and has not been completed yet."""
        tool, self.tool = self.tool, None
        if tool is not None:
            module = importlib.import_module(tool.module)
            module.add_arguments(self)
            self.set_defaults(run_tool=module.run)


def add_words(commands: Any) -> None:
    """Add a subcommand for each tool to the subparsers of ``daemons``."""
    for word, tool in TOOLS.items():
        commands.add_parser(word, help=tool.help, description=tool.help).tool = tool


def refuse(word: str, reason: str) -> int:
    """Print why a tool failed on standard error; return the exit code `FAILED`."""
    sys.stdout.flush()
    print(escape(f"daemons {word}: {reason}"), file=sys.stderr)
    return FAILED


def add_timeout(parser: argparse.ArgumentParser, default: float = 10.0) -> None:
    """Add the option -t, the same as that of ``daemons ask``."""
    parser.add_argument(
        "-t",
        dest="timeout",
        metavar="SECONDS",
        type=arguments.seconds,
        default=default,
        help=f"timeout (default {default:g})",
    )


def host_and_port(text: str, default: int) -> tuple[str, int]:
    """Parse ``HOST``, ``HOST:PORT``, ``::1`` or ``[::1]:PORT``; `default` is the port if none is given.  Raises
    `argparse.ArgumentTypeError`."""
    match = re.fullmatch(r"\[([^\[\]]+)\](?::([\w-]+))?|([^\[\]:]+)(?::([\w-]+))?|([0-9A-Fa-f:.]+(?:%[\w.-]+)?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a server; expected HOST, HOST:PORT or [::1]:PORT")
    host, numbered = match[1] or match[3] or match[5], match[2] or match[4]
    return host, arguments.port(numbered) if numbered else default


def reason_of(error: Exception) -> str:
    """Return the reason of an error, in lower case.  TimeoutError('timed out') has a message but no strerror (T31)."""
    if isinstance(error, UnicodeError):
        # A host name that IDNA cannot encode (RFC 3490, section 4).
        return "not a host name: a label is empty, longer than 63 bytes, or contains a forbidden character"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"  # DNS, AF_UNIX
