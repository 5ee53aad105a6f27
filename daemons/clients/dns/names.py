"""``daemons names [HOST]``: call the older name service functions and print the result of each.

Except gethostbyaddr(3) they support IPv4 only; new programs, and the other tools here, use getaddrinfo(3).
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable
from typing import Any

from daemons.clients import arguments, tools
from daemons.printable import escape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "host", nargs="?", metavar="HOST", type=arguments.nonempty, help="a name or an address (default: this machine)"
    )
    parser.add_argument("--protocol", metavar="NAME", default="UDP", help="a name in /etc/protocols (default UDP)")
    parser.add_argument("--service", metavar="NAME", default="www", help="a name in /etc/services (default www)")
    parser.epilog = "Exit codes: 0 all calls succeeded, 1 a call failed, 2 wrong command line."


def run(options: argparse.Namespace) -> int:
    calls = _Calls()
    name = calls.make(socket.gethostname)
    calls.make(socket.getfqdn)
    host = options.host if options.host is not None else name
    address = calls.make(socket.gethostbyname, host)
    # gethostbyname(3) fails for an IPv6 address; gethostbyaddr(3) may still find its name.
    calls.make(socket.gethostbyaddr, address or host)
    calls.make(socket.getprotobyname, options.protocol)
    port = calls.make(socket.getservbyname, options.service)
    if port is not None:
        calls.make(socket.getservbyport, port)
    return calls.code


class _Calls:
    """Makes calls and prints their results; `code` is `FAILED` after any call has failed."""

    def __init__(self) -> None:
        self.code = tools.DONE

    def make(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of a call, None if it fails."""
        call_text = f"{call.__name__}({', '.join(map(repr, arguments))})"
        try:
            found = call(*arguments)
        except (OSError, UnicodeError) as error:
            sys.stdout.flush()
            print(escape(f"{call_text}: {tools.reason_of(error)}"), file=sys.stderr)
            self.code = tools.FAILED
            return None
        print(escape(f"{call_text} = {found!r}"))
        return found
