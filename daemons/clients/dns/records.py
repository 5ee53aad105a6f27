"""``daemons dns NAME``: look up the records of a name in the DNS, bypassing the system's name service."""

from __future__ import annotations

import argparse
from typing import Any

from daemons.clients import arguments, tools
from daemons.clients.dns import resolving

#: Record types, in the order in which they are looked up and printed.
KINDS = ("A", "AAAA", "CNAME", "MX", "NS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=arguments.nonempty, help="a domain name")
    resolving.add_arguments(parser)
    parser.epilog = (
        "Prints a line for each record: name, class, type and data; aliases are followed. Exit codes: 0 there are "
        "records, 1 there are none, or the lookup failed, 2 wrong command line."
    )


def run(options: argparse.Namespace) -> int:
    return resolving.run("dns", options, lambda resolver: _print_records(options.name, resolver))


def _print_records(text: str, resolver: resolving.Resolver) -> int:
    name = resolving.name_of(text)
    printed: set[str] = set()
    for kind in KINDS:
        found = resolver.find(name, kind)
        if not found.exists and not found.aliases:
            return tools.refuse("dns", f"{resolving.to_text(name)} does not exist (NXDOMAIN)")
        for line in (line for rrset in found.answer for line in _lines(rrset)):
            if line not in printed:  # an alias is in the reply for each type
                printed.add(line)
                print(line)
    if not printed:
        return tools.refuse("dns", f"{resolving.to_text(name)} has no records of the types {', '.join(KINDS)}")
    return tools.DONE


def _lines(rrset: Any) -> list[str]:
    """Return a line for each record, in the canonical order of RFC 4034, section 6.3, since servers rotate them."""
    owner, kind = resolving.to_text(rrset.name), resolving.type_name(rrset.rdtype)
    return [f"{owner} IN {kind} {rdata.to_text()}" for rdata in sorted(rrset)]
