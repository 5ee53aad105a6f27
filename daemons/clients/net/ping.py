"""``daemons ping HOST [SERVICE]``: whether somebody listens there.  Nothing is said to who does."""

from __future__ import annotations

import argparse
import socket
import sys
import time

from daemons.clients import arguments, tools
from daemons.clients.net.system import Place, places
from daemons.printable import escape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST", help="a name or an address")
    parser.add_argument(
        "port", nargs="?", metavar="SERVICE", type=arguments.port, default="www", help="a port, or its name; else www"
    )
    tools.add_timeout(parser)
    parser.epilog = (
        "Every address that the name stands for is tried, until somebody listens at one. Exit codes: 0 somebody "
        "listens, 1 nobody does or there is no such name, 2 a wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    try:
        found = places(options.host, options.port)
    except (OSError, UnicodeError) as error:
        print(f"Name service failure: {tools.reason_of(error)}", file=sys.stderr)
        return tools.FAILED
    failures = []
    until = time.monotonic() + options.timeout
    for number, place in enumerate(found):
        # An equal share each, so that one from which nothing comes back leaves time for the others.
        share = (until - time.monotonic()) / (len(found) - number)
        try:
            _connect(place, max(share, 0.001))
        except OSError as error:
            failures.append(f"Network failure: {place.address[0]} port {options.port}: {tools.reason_of(error)}")
        else:
            canonical = escape(found[0].canonical or options.host)
            print(f"Success: host {canonical} is listening on port {options.port}")
            return tools.DONE
    print("\n".join(failures), file=sys.stderr)
    return tools.FAILED


def _connect(place: Place, timeout: float) -> None:
    """Raises `OSError` where nobody listens."""
    with socket.socket(place.family, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout)
        peer.connect(place.address)
