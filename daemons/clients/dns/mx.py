"""``daemons mx DOMAIN``: the mail servers of a domain, by the rules of RFC 5321, section 5.1.

Aliases are followed first.  If there are MX records, only their hosts are tried; hosts of equal preference are shuffled
to spread the load.  Without MX records, the addresses of the domain itself are used.  A single MX record for the root
means that the domain accepts no mail (RFC 7505).  A failed lookup is an error and not an absence of records: mail would
be queued and retried.
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

#: Shuffles a list in place.
Shuffle = Callable[[MutableSequence[Any]], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "domain", metavar="DOMAIN", type=arguments.nonempty, help="the part of a mail address after the @"
    )
    resolving.add_arguments(parser)
    parser.epilog = (
        "Servers of equal priority are listed in random order. Exit codes: 0 there is a server to try, 1 there is "
        "none, or the lookup failed, 2 wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    return resolving.run("mx", options, lambda resolver: resolve_email_domain(options.domain, resolver))


def in_order(records: Iterable[Any], shuffle: Shuffle = random.shuffle) -> list[Any]:
    """Return MX records sorted by preference, lowest first, and shuffled within each preference."""
    shuffled = list(records)
    shuffle(shuffled)
    return sorted(shuffled, key=lambda record: int(record.preference))


def resolve_email_domain(domain: str, resolver: resolving.Resolver) -> int:
    """Print the mail servers of a domain; return the exit code.  Raises `resolving.LookupFailure`."""
    name = resolving.name_of(domain)
    found = resolver.find(name, "MX")
    _print_aliases(found, "")
    if not found.exists:
        return _error(f"ERROR: no records for {resolving.to_text(found.name)}")
    if not found.records:
        print("Drat, this domain has no explicit MX records")
        print("We will have to try resolving it as an A, AAAA, or CNAME")
        return _resolve_hostname(found.name, resolver)
    servers = [record for record in in_order(found.records) if resolving.to_text(record.exchange) != "."]
    if not servers:
        return _error(f"The domain {domain!r} accepts no mail: its MX record is null (RFC 7505)")
    print(f"The domain {domain!r} has explicit MX records!")
    print("Try the servers in this order:")
    codes = []
    for record in servers:
        print(f"Priority: {record.preference}   Hostname: {resolving.to_text(record.exchange)}")
        try:
            codes.append(_resolve_hostname(record.exchange, resolver))
        except resolving.LookupFailure as error:  # other servers may still be found
            codes.append(_error(f"    ERROR: {error}"))
    if min(codes) != tools.DONE:
        return _error(f"ERROR: none of the servers of {domain!r} has an address, and no other may be tried")
    return tools.DONE


def _resolve_hostname(name: Any, resolver: resolving.Resolver) -> int:
    """Print the addresses of a server; return an exit code.  Raises `resolving.LookupFailure`."""
    addresses = 0
    for kind in ("A", "AAAA"):
        found = resolver.find(name, kind)
        if kind == "A":
            _print_aliases(found, "    ")
        for record in found.records:
            print(f"    Hostname {resolving.to_text(found.name)} = {kind} {record.address}")
            addresses += 1
    if not addresses:
        return _error(f"    ERROR: no records for {resolving.to_text(found.name)}")
    return tools.DONE


def _print_aliases(found: resolving.Found, indent: str) -> None:
    names = [*found.aliases, found.name]
    for alias, name in pairwise(names):
        print(f"{indent}Hostname {resolving.to_text(alias)} is an alias for {resolving.to_text(name)}")


def _error(text: str) -> int:
    sys.stdout.flush()
    print(text, file=sys.stderr)
    return tools.FAILED
