"""``daemons ping HOST [SERVICE]``: check whether a TCP port accepts connections.  Nothing is sent."""

from __future__ import annotations

import argparse
import socket
import sys
import time

from daemons.clients import arguments, tools
from daemons.clients.net.system import HostAddress, refuse_itself, resolve
from daemons.printable import escape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST", help="a name or an address")
    parser.add_argument(
        "port",
        nargs="?",
        metavar="SERVICE",
        type=arguments.port,
        default=80,  # not its name: a minimal Debian has no /etc/services
        help="a port or its name (default 80)",
    )
    tools.add_timeout(parser)
    parser.epilog = (
        "The addresses of the host are tried in turn until one accepts the connection. Exit codes: 0 connected, "
        "1 no address accepts connections, or the name has none, 2 wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    try:
        found = resolve(options.host, options.port)
    except (OSError, UnicodeError) as error:
        print(f"Name service failure: {tools.reason_of(error)}", file=sys.stderr)
        return tools.FAILED
    failures = []
    until = time.monotonic() + options.timeout
    for number, candidate in enumerate(found):
        # An equal share each, so that an address that does not respond leaves time for the others.
        share = (until - time.monotonic()) / (len(found) - number)
        try:
            _connect(candidate, max(share, 0.001))
        except OSError as error:
            failures.append(f"Network failure: {candidate.address[0]} port {options.port}: {tools.reason_of(error)}")
        else:
            canonical = escape(found[0].canonical or options.host)
            print(f"Success: host {canonical} is listening on port {options.port}")
            return tools.DONE
    print("\n".join(failures), file=sys.stderr)
    return tools.FAILED


def _connect(candidate: HostAddress, timeout: float) -> None:
    """Connect and close.  Raises `OSError` if the connection is not accepted within `timeout` seconds."""
    with socket.socket(candidate.family, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout)
        peer.connect(candidate.address)
        refuse_itself(peer)
