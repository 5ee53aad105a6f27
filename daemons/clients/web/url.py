"""``daemons url URL [BASE]``: print the parts of a URL (RFC 3986), resolved against a base URL if one is given."""

from __future__ import annotations

import argparse
from urllib.parse import SplitResult, parse_qsl, unquote, urldefrag, urljoin, urlsplit

from daemons.clients import tools
from daemons.printable import escape

#: Default ports of schemes.
PORTS = {"http": 80, "https": 443, "ftp": 21}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="a URL, or with BASE a relative reference")
    parser.add_argument("base", metavar="BASE", nargs="?", help="the base URL: that of the page with the reference")
    parser.epilog = "Exit codes: 0 success, 1 malformed URL, 2 wrong command line."


def run(options: argparse.Namespace) -> int:
    try:
        joined = options.url if options.base is None else urljoin(options.base, options.url)
        parts = urlsplit(joined)
        lines = [("joined", joined)] * (options.base is not None) + anatomy(parts)
    except ValueError as error:
        return tools.refuse("url", escape(f"{options.url!r} is not a URL: {tools.reason_of(error)}"))
    for name, value in lines:
        print(escape(f"{name:<11} {value}".rstrip()))
    return tools.DONE


def anatomy(parts: SplitResult) -> list[tuple[str, str]]:
    """Return the names and values of the parts of a URL; percent-encoded parts are also decoded.  Raises `ValueError`
    for an invalid port."""
    whole = parts.geturl()
    port = parts.port
    lines = [("scheme", parts.scheme), ("user", unquote(parts.username or ""))]
    lines += [("password", unquote(parts.password or "")), ("host", parts.hostname or "")]
    if port is not None or (parts.scheme in PORTS and parts.hostname):
        lines += [("port", str(port) if port is not None else f"{PORTS[parts.scheme]} (default)")]
    lines += [("path", parts.path)]
    lines += [("  decoded", unquote(parts.path))] if unquote(parts.path) != parts.path else []
    lines += [("query", parts.query)]
    lines += [("  field", f"{name} = {value}") for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    lines += [("fragment", parts.fragment)]
    lines += [("without it", urldefrag(whole).url)] if parts.fragment else []
    return [(name, value) for name, value in lines if value]
