"""``daemons mx DOMAIN``: who takes the mail of a domain, by the rules of RFC 5321, section 5.1.

An alias is followed first.  Where there are MX records, these servers and no others; equal preferences in any order, so
that the load is spread.  Where there are none, the domain's own addresses.  One MX record for the root says that there
is no mail (RFC 7505).  That nobody could tell is not that there are none: then mail is kept and tried again.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, MutableSequence
from itertools import pairwise
from typing import Any

from daemons.clients import arguments, tools
from daemons.clients.dns import resolving

#: Puts a list in any order, in place.
Shuffle = Callable[[MutableSequence[Any]], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "domain", metavar="DOMAIN", type=arguments.filled, help="what stands behind the @ of an address"
    )
    resolving.add_arguments(parser)
    parser.epilog = (
        "Exit codes: 0 there is a server to try, 1 there is none or nobody could tell, 2 a wrong command line. "
        "Servers of equal priority are in another order each time."
    )


def run(options: argparse.Namespace) -> int:
    return resolving.run("mx", options, lambda resolver: resolve_email_domain(options.domain, resolver))


def in_order(records: Iterable[Any], shuffle: Shuffle = random.shuffle) -> list[Any]:
    """MX records, the lowest preference first, and those of one preference in any order."""
    shuffled = list(records)
    shuffle(shuffled)
    return sorted(shuffled, key=lambda record: int(record.preference))


def resolve_email_domain(domain: str, resolver: resolving.Resolver) -> int:
    """Print the servers of a domain; returns the exit code.  Raises `resolving.LookupFailure`."""
    name = resolving.name_of(domain)
    found = resolver.find(name, "MX")
    _print_aliases(found, "")
    if not found.exists:
        return _error(f"ERROR: no records for {resolving.shown(found.name)}")
    if not found.records:
        print("Drat, this domain has no explicit MX records")
        print("We will have to try resolving it as an A, AAAA, or CNAME")
        return _resolve_hostname(found.name, resolver)
    servers = [record for record in in_order(found.records) if resolving.shown(record.exchange) != "."]
    if not servers:
        return _error(f"The domain {domain!r} accepts no mail: its MX record is null (RFC 7505)")
    print(f"The domain {domain!r} has explicit MX records!")
    print("Try the servers in this order:")
    codes = []
    for record in servers:
        print(f"Priority: {record.preference}   Hostname: {resolving.shown(record.exchange)}")
        try:
            codes.append(_resolve_hostname(record.exchange, resolver))
        except resolving.LookupFailure as error:  # the next one may be found all the same
            codes.append(_error(f"    ERROR: {error}"))
    if min(codes) != tools.DONE:
        return _error(f"ERROR: none of the servers of {domain!r} has an address, and no other may be tried")
    return tools.DONE


def _resolve_hostname(name: Any, resolver: resolving.Resolver) -> int:
    """Print the addresses of one server.  Raises `resolving.LookupFailure`."""
    addresses = 0
    for kind in ("A", "AAAA"):
        found = resolver.find(name, kind)
        if kind == "A":
            _print_aliases(found, "    ")
        for record in found.records:
            print(f"    Hostname {resolving.shown(found.name)} = {kind} {record.address}")
            addresses += 1
    if not addresses:
        return _error(f"    ERROR: no records for {resolving.shown(found.name)}")
    return tools.DONE


def _print_aliases(found: resolving.Found, indent: str) -> None:
    names = [*found.aliases, found.name]
    for alias, name in pairwise(names):
        print(f"{indent}Hostname {resolving.shown(alias)} is an alias for {resolving.shown(name)}")


def _error(text: str) -> int:
    sys.stdout.flush()
    print(text, file=sys.stderr)
    return tools.FAILED
