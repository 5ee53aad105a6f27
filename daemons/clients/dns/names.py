"""``daemons names [HOST]``: the primitive calls of the name service, each with what it returns.

They know IPv4 alone, except gethostbyaddr(3); what is new asks getaddrinfo(3), as the other tools do.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable
from typing import Any

from daemons.clients import tools
from daemons.printable import escape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", nargs="?", metavar="HOST", help="a name or an address; else this machine's name")
    parser.add_argument("--protocol", metavar="NAME", default="UDP", help="a protocol of /etc/protocols; else UDP")
    parser.add_argument("--service", metavar="NAME", default="www", help="a service of /etc/services; else www")
    parser.epilog = "Exit codes: 0 all were answered, 1 one was not, 2 a wrong command line."


def run(options: argparse.Namespace) -> int:
    calls = _Calls()
    name = calls.make(socket.gethostname)
    calls.make(socket.getfqdn)
    host = options.host if options.host is not None else name
    address = calls.make(socket.gethostbyname, host)
    # An IPv6 address has no answer of the first, and may have one of the second.
    calls.make(socket.gethostbyaddr, address or host)
    calls.make(socket.getprotobyname, options.protocol)
    port = calls.make(socket.getservbyname, options.service)
    if port is not None:
        calls.make(socket.getservbyport, port)
    return calls.code


class _Calls:
    """Makes calls, prints each, and keeps whether one has failed."""

    def __init__(self) -> None:
        self.code = tools.DONE

    def make(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What it returns; None where it fails."""
        said = f"{call.__name__}({', '.join(map(repr, arguments))})"
        try:
            found = call(*arguments)
        except (OSError, UnicodeError) as error:
            sys.stdout.flush()
            print(escape(f"{said}: {tools.reason_of(error)}"), file=sys.stderr)
            self.code = tools.FAILED
            return None
        print(escape(f"{said} = {found!r}"))
        return found
