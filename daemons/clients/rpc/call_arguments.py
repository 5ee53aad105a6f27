"""The command line of ``daemons call``; what it does is in `daemons.clients.rpc.call`, imported when it is used."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from daemons.clients.arguments import seconds

#: The secret of --user, which is better not in a command line: others can read those.
SECRET = "DAEMONS_SECRET"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line, behind --conf and --run."""
    parser.add_argument(
        "target", metavar="NAME|URL", help="a daemon, the NAME of conf/NAME.ini; or http://HOST:PORT/PATH"
    )
    parser.add_argument("words", nargs="*", default=[], metavar="METHOD VALUES", help="what to call, and with what")
    parser.add_argument("--json", action="store_true", help="with a URL: by JSON-RPC, and not by XML-RPC")
    parser.add_argument("--list", action="store_true", help="which methods there are, and what they do")
    parser.add_argument("--batch", metavar="FILE", help="call all that is in FILE, one METHOD VALUES a line, at once")
    parser.add_argument(
        "--retries",
        type=_count,
        default=0,
        metavar="N",
        help="try again, ever later, when the network failed: what was not sent, and methods that are idempotent",
    )
    parser.add_argument("--idempotent", action="store_true", help="with --retries: these methods may be called twice")
    parser.add_argument("-t", dest="timeout", metavar="SECONDS", type=seconds, default=10.0, help="to wait; else 10")
    parser.add_argument("--cafile", metavar="FILE", type=Path, help="the CA that must have signed its certificate")
    parser.add_argument("--user", metavar="NAME", help=f"who calls; the secret is in ${SECRET}")


def without_password(target: str) -> str:
    """Return a daemon's name, or a URL without its user and password, as messages name it."""
    return re.sub(r"://[^/?#]*@", "://", target, count=1)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 4):
        raise argparse.ArgumentTypeError(f"not a number of attempts: {text!r}")
    return int(text)
