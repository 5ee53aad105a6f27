"""What the tools of the web have in common on the command line, and what they say when it goes wrong."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from urllib.parse import urlsplit

from daemons.clients import arguments, tools
from daemons.printable import escape

#: Seconds without an octet; and for all that one URL takes, its redirects included.
PATIENCE, TIMEOUT = 60.0, 60.0


class Failure(tools.ToolError):
    """It could not be done; the text says what, and why."""


def tell(line: str) -> None:
    """A line on standard error, whatever somebody has put into it."""
    print(escape(line), file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser, *, shown: bool = True, hurry: bool = True) -> None:
    """Those of every tool that asks a web server; -v among them where requests and responses can be shown.  Without
    `hurry` a URL may take as long as it likes, as long as something moves."""
    parser.add_argument("url", metavar="URL", type=web_url, help="http://… or https://…")
    parser.add_argument(
        "-H", dest="headers", metavar="'NAME: VALUE'", type=field, action="append", default=[], help="a field to send"
    )
    parser.add_argument("-A", dest="agent", metavar="AGENT", type=value, help="the User-Agent to claim; it may be any")
    parser.add_argument(
        "-u",
        dest="user",
        metavar="USER[:PASSWORD]",
        type=arguments.filled,
        help="log in, by Basic; the password may be asked for",
    )
    parser.add_argument(
        "--jar", metavar="FILE", type=arguments.filled, help="the file that keeps the cookies, as curl has it"
    )
    parser.add_argument(
        "--cache", metavar="DIR", type=arguments.filled, help="the folder that keeps answers as long as they hold"
    )
    parser.add_argument(
        "--cafile", metavar="FILE", type=arguments.filled, help="the CA to trust, instead of those of the system"
    )
    parser.add_argument("-k", "--insecure", action="store_true", help="talk to anybody, whatever the certificate")
    parser.add_argument(
        "--proxy", metavar="URL", help="http://HOST:PORT; else what http_proxy, https_proxy and no_proxy say"
    )
    parser.add_argument(
        "--unix-socket", metavar="PATH", type=arguments.filled, help="where to connect to, not the host of the URL"
    )
    if shown:
        parser.add_argument("-v", dest="verbose", action="store_true", help="show each request and each response")
    parser.set_defaults(verbose=False)
    if hurry:
        tools.add_timeout(parser, TIMEOUT)
    else:
        parser.add_argument(
            "-t",
            dest="timeout",
            metavar="SECONDS",
            type=arguments.seconds,
            help=f"for all of it; else no more than {PATIENCE:g} without an octet",
        )


def web_url(text: str) -> str:
    """A URL that names a web server."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\x00-\x20\x7f\ud800-\udfff]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of the web; write http://HOST[:PORT]/PATH, or https://…")
    return text


def value(text: str) -> str:
    """The value of a field: one line (RFC 9110, section 5.5)."""
    if not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a field is one line of Latin-1, without control characters")
    return text.strip()


def field(text: str) -> tuple[str, str]:
    """``NAME: VALUE``; a name is a token (RFC 9110, section 5.6.2)."""
    name, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name):
        raise argparse.ArgumentTypeError(f"{text!r} is no field; write 'NAME: VALUE'")
    return name, value(rest)


def pair(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is no field of a form; write NAME=VALUE")
    return name, rest


def credentials(text: str) -> tuple[str, str]:
    """User and password; the password is asked for where there is none, and nobody sees it.  Raises `Failure`."""
    user, colon, password = text.partition(":")
    if colon:
        return user, password
    if not sys.stdin.isatty():
        raise Failure(f"-u {user}: there is no password, and nobody at a terminal to ask; write -u {user}:PASSWORD")
    try:
        return user, getpass.getpass(f"Password of {user}: ")
    except EOFError as error:
        raise Failure(f"-u {user}: no password was given") from error
