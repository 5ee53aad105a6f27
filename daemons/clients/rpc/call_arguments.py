"""The arguments of ``daemons call``; the command itself, `daemons.clients.rpc.call`, is imported only when used."""

from __future__ import annotations

import argparse
import re

from daemons.clients.arguments import nonempty, path, seconds

#: The environment variable with the secret of --user; other users can read command lines.
SECRET = "DAEMONS_SECRET"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that follow --conf and --run."""
    parser.add_argument(
        "target", metavar="NAME|URL", help="a daemon, the NAME of conf/NAME.ini; or http://HOST:PORT/PATH"
    )
    parser.add_argument("words", nargs="*", default=[], metavar="METHOD VALUES", help="the method and its arguments")
    parser.add_argument("--json", action="store_true", help="with a URL: use JSON-RPC instead of XML-RPC")
    parser.add_argument("--list", action="store_true", help="list the methods and their descriptions")
    parser.add_argument(
        "--batch", metavar="FILE", help="make all calls in FILE, one METHOD VALUES per line, in one request"
    )
    parser.add_argument(
        "--retries",
        type=_count,
        default=0,
        metavar="N",
        help="retries, with growing pauses, after network errors: of requests not sent, and of idempotent methods",
    )
    parser.add_argument("--idempotent", action="store_true", help="with --retries: the methods may be called twice")
    parser.add_argument(
        "-t", dest="timeout", metavar="SECONDS", type=seconds, default=10.0, help="timeout (default 10)"
    )
    parser.add_argument("--cafile", metavar="FILE", type=path, help="the CA to trust")
    parser.add_argument(
        "--user", metavar="NAME", type=nonempty, help=f"authenticate as NAME; the secret is in ${SECRET}"
    )


def without_password(target: str) -> str:
    """Return a target for use in messages: a URL without its user and password, or a daemon's name unchanged."""
    return re.sub(r"://[^/?#]*@", "://", target, count=1)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 4):
        raise argparse.ArgumentTypeError(f"not a number of retries: {text!r}")
    return int(text)
