"""The tools: words of ``daemons`` that need no daemon of ours, and no conf folder.

Each is one file, most of them beside this one, with ``add_arguments(parser)`` and ``run(options)``, which returns the
exit code.  It is imported when its word is used, and not before: `daemons run` starts without them.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from typing import Any, NamedTuple

from daemons.clients import arguments
from daemons.printable import escape

#: What a tool returns; a wrong command line is 2, which argparse says itself.
DONE, FAILED = 0, 1


class ToolError(Exception):
    """A tool could not do what it was asked to: the text, which `daemons.cli.outcome` reports, says why."""


class Tool(NamedTuple):
    """Where a tool is, and what it does in one sentence."""

    module: str
    help: str


TOOLS: dict[str, Tool] = {
    "password": Tool("daemons.cli.password", "add a user to a file for [protected], or change a password"),
    "ping": Tool("daemons.clients.net.ping", "whether somebody listens at a port of a host"),
    "forward-reverse": Tool(
        "daemons.clients.dns.forward_reverse", "whether a host's name leads to an address whose name leads back"
    ),
    "dns": Tool(
        "daemons.clients.dns.records", "the records A, AAAA, CNAME, MX and NS of a name, asked of the DNS itself"
    ),
    "mx": Tool("daemons.clients.dns.mx", "the servers that take the mail of a domain, in the order to try them in"),
    "names": Tool("daemons.clients.dns.names", "what this system's name service says of a host, a protocol and a port"),
    "fetch": Tool("daemons.clients.web.fetch", "what is at a URL of http or https, and sends what is to be put there"),
    "links": Tool("daemons.clients.web.links", "whether the links of a page lead somewhere"),
    "scrape": Tool("daemons.clients.web.scrape", "the values in a page, behind a form, or in all pages of a site"),
    "url": Tool("daemons.clients.web.url", "the parts of a URL, and where it leads from another"),
    "mtu": Tool("daemons.clients.net.mtu", "how long a datagram may be that gets to a host in one piece"),
    "tls-report": Tool(
        "daemons.clients.net.tls_report", "who answers over TLS, with which certificate, and how it is spoken"
    ),
    "linecount": Tool(
        "daemons.clients.rpc.linecount", "how many lines a file has, counted at the other end, over RPyC"
    ),
    "whois": Tool("daemons.clients.dns.whois", "who has registered a name, asked of a WHOIS server"),
}


class CommandParser(argparse.ArgumentParser):
    """The parser of one word; that of a tool gets its arguments from the tool when it is used."""

    tool: Tool | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.complete()
        return super().parse_known_args(args, namespace)

    def complete(self) -> None:
        """Add the arguments of the tool, where there is one and they are not there yet."""
        tool, self.tool = self.tool, None
        if tool is not None:
            module = importlib.import_module(tool.module)
            module.add_arguments(self)
            self.set_defaults(run_tool=module.run)


def add_words(commands: Any) -> None:
    """A word for each tool, in the subparsers of ``daemons``."""
    for word, tool in TOOLS.items():
        commands.add_parser(word, help=tool.help, description=tool.help).tool = tool


def refuse(word: str, reason: str) -> int:
    """Say why a tool failed; returns the exit code for that."""
    sys.stdout.flush()
    print(escape(f"daemons {word}: {reason}"), file=sys.stderr)
    return FAILED


def add_timeout(parser: argparse.ArgumentParser, default: float = 10.0) -> None:
    """The option -t, as ``daemons ask`` has it."""
    parser.add_argument(
        "-t",
        dest="timeout",
        metavar="SECONDS",
        type=arguments.seconds,
        default=default,
        help=f"to wait; else {default:g}",
    )


def host_and_port(text: str, default: int) -> tuple[str, int]:
    """``HOST``, ``HOST:PORT``, ``::1`` or ``[::1]:PORT``."""
    match = re.fullmatch(r"\[([^\[\]]+)\](?::([\w-]+))?|([^\[\]:]+)(?::([\w-]+))?|([0-9A-Fa-f:.]+(?:%[\w.-]+)?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no server; write HOST, HOST:PORT or [::1]:PORT")
    host, numbered = match[1] or match[3] or match[5], match[2] or match[4]
    return host, arguments.port(numbered) if numbered else default


def reason_of(error: Exception) -> str:
    """Why, in small letters.  TimeoutError('timed out') has no strerror, and one argument alone (T31)."""
    if isinstance(error, UnicodeError):
        # What came from the command line and is no name in any alphabet: RFC 3490, section 4.
        return "not a host name: a label is empty, longer than 63 octets, or has a character that none may have"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"  # DNS, AF_UNIX
