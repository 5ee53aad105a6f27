"""Command-line arguments, logging and errors that the web tools share."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from urllib.parse import urlsplit

from daemons.clients import arguments, tools
from daemons.printable import escape

#: Seconds without progress, and for one URL in total, redirects included.
PATIENCE, TIMEOUT = 60.0, 60.0


#: Names of header fields that may hold credentials, such as Authorization, X-Api-Key, Private-Token and X-Session-Id.
_SECRET = re.compile("auth|cookie|credential|csrf|key|pass|secret|session|token", re.IGNORECASE)


class Failure(tools.ToolError):
    """A request, or the processing of its response, failed; the message has the subject and the reason."""


def log(line: str) -> None:
    """Print a line on standard error, escaped, since it may contain data of the peer."""
    print(escape(line), file=sys.stderr, flush=True)


def is_secret(name: str) -> bool:
    """Return whether a header field of that name may hold credentials."""
    return _SECRET.search(name) is not None


def add_arguments(parser: argparse.ArgumentParser, *, shown: bool = True, default_timeout: bool = True) -> None:
    """Add the arguments of all web tools.

    With `shown`, -v to trace requests and responses is added.  Without `default_timeout`, a URL may take any time as
    long as bytes are transferred, unless -t is given."""
    parser.add_argument("url", metavar="URL", type=web_url, help="http://… or https://…")
    parser.add_argument(
        "-H", dest="headers", metavar="'NAME: VALUE'", type=field, action="append", default=[], help="a header field"
    )
    parser.add_argument("-A", dest="agent", metavar="AGENT", type=value, help="the User-Agent to send")
    parser.add_argument(
        "-u",
        dest="user",
        metavar="USER[:PASSWORD]",
        type=arguments.nonempty,
        help="credentials for Basic authentication; a missing PASSWORD is prompted for",
    )
    parser.add_argument(
        "--jar", metavar="FILE", type=arguments.nonempty, help="the cookie file, in the format of curl and Netscape"
    )
    parser.add_argument("--cache", metavar="DIR", type=arguments.nonempty, help="the folder of the HTTP cache")
    parser.add_argument(
        "--cafile", metavar="FILE", type=arguments.nonempty, help="the CA to trust instead of those of the system"
    )
    parser.add_argument("-k", "--insecure", action="store_true", help="do not verify the server's certificate")
    parser.add_argument(
        "--proxy",
        metavar="URL",
        type=arguments.nonempty,
        help="http://HOST:PORT (default: http_proxy, https_proxy and no_proxy)",
    )
    parser.add_argument(
        "--unix-socket", metavar="PATH", type=arguments.nonempty, help="connect to this socket instead of the host"
    )
    if shown:
        parser.add_argument("-v", dest="verbose", action="store_true", help="print all requests and responses")
    parser.set_defaults(verbose=False)
    if default_timeout:
        tools.add_timeout(parser, TIMEOUT)
    else:
        parser.add_argument(
            "-t",
            dest="timeout",
            metavar="SECONDS",
            type=arguments.seconds,
            help=f"total timeout (default: none, but at most {PATIENCE:g} without progress)",
        )


def web_url(text: str) -> str:
    """Return an http or https URL.  Raises `argparse.ArgumentTypeError`."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\x00-\x20\x7f\ud800-\udfff]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a web URL; expected http://HOST[:PORT]/PATH or https://…")
    return text


def value(text: str) -> str:
    """Return the value of a header field (RFC 9110, section 5.5).  Raises `argparse.ArgumentTypeError`."""
    if not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected one line of Latin-1 without control characters")
    return text.strip()


def field(text: str) -> tuple[str, str]:
    """Parse ``NAME: VALUE``; the name is a token (RFC 9110, section 5.6.2).  Raises `argparse.ArgumentTypeError`."""
    name, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name):
        raise argparse.ArgumentTypeError(f"{text!r} is not a header field; expected 'NAME: VALUE'")
    return name, value(rest)


def pair(text: str) -> tuple[str, str]:
    """Parse ``NAME=VALUE``.  Raises `argparse.ArgumentTypeError`."""
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not a form field; expected NAME=VALUE")
    return name, rest


def credentials(text: str) -> tuple[str, str]:
    """Return user and password; prompt for a missing password, without echo.  Raises `Failure`."""
    user, colon, password = text.partition(":")
    if colon:
        return user, password
    if not sys.stdin.isatty():
        raise Failure(f"-u {user}: no password, and no terminal to prompt for it; write -u {user}:PASSWORD")
    try:
        return user, getpass.getpass(f"Password of {user}: ")
    except EOFError as error:
        raise Failure(f"-u {user}: no password was given") from error
    except UnicodeDecodeError as error:  # in UTF-8 mode too: getpass opens the terminal itself
        raise Failure(f"-u {user}: the password is not in the encoding of the locale") from error
