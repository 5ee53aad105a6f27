"""Stub resolver based on dnspython, for records that the system's name service does not provide (MX, NS, …).

To resolve the address of a host, use `daemons.clients.net.system`, which consults /etc/hosts and caches.
"""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from daemons.clients import tools

try:
    import dns.exception
    import dns.message
    import dns.name
    import dns.rcode
    import dns.rdataclass
    import dns.rdatatype
    import dns.resolver
    import dns.rrset

    from daemons.clients.dns import single_query
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "dns":
        raise
    MISSING = True
else:
    MISSING = False

#: RFC 1035, section 4.2.
PORT = 53

#: Maximum length of a chain of aliases; RFC 1034, section 3.6.2, requires chains to be followed and loops reported.
LONGEST_CHAIN = 8

#: Seconds to wait for one server before the next is tried.
PATIENCE = 2.0

#: Maximum rounds over the servers after SERVFAIL, and seconds between the first two; the pause doubles each time.  RFC
#: 9520, section 3.1, requires few retries with backoff.
ROUNDS, PAUSE = 3, 0.2


class LookupFailure(tools.ToolError):
    """A lookup failed, so that it is unknown whether there are records.  The message has the query and the reason."""


class Found(NamedTuple):
    """The records of one type of a name, or of the name it is an alias for."""

    #: The name at the end of the chain of aliases.
    name: dns.name.Name
    #: Whether that name exists.
    exists: bool
    #: The records as ``rdata`` of dnspython; empty if the name has none of this type.
    records: list[Any]
    #: The chain of aliases that was followed, starting with the queried name and without `name`.
    aliases: list[dns.name.Name]
    #: The answer sections of all responses, aliases included.
    answer: list[dns.rrset.RRset]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all DNS tools share."""
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        type=lambda text: tools.host_and_port(text, PORT),
        help="the DNS server (default: those in /etc/resolv.conf)",
    )
    tools.add_timeout(parser)


def run(word: str, options: argparse.Namespace, tool: Callable[[Resolver], int]) -> int:
    """Run a DNS tool with a resolver and return its exit code; `FAILED` if dnspython is not installed."""
    if MISSING:
        return tools.refuse(word, "the package dnspython is not installed: pip install 'camelot-daemons[dns]'")
    return tool(Resolver(options.server, options.timeout))


def name_of(text: str) -> dns.name.Name:
    """Return the absolute name for `text`.  Raises `LookupFailure`."""
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise LookupFailure(f"{text!r} is not a domain name: {_reason(error)}") from error


def to_text(name: dns.name.Name) -> str:
    r"""Return a name without its final dot; bytes that are not printable are escaped, such as ``\027``."""
    return name.to_text(omit_final_dot=True)


def type_name(kind: int) -> str:
    """Return the mnemonic of a record type, such as ``MX``, or else ``TYPE65280`` (RFC 3597)."""
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(kind))


class Resolver:
    """Stub resolver: queries recursive servers, or one given server, which may be authoritative."""

    def __init__(self, server: tuple[str, int] | None, timeout: float) -> None:
        """Use `server`, a host and a port, or else the servers in /etc/resolv.conf; `timeout` is the limit for each
        query in seconds.  Raises `LookupFailure`."""
        self._timeout = timeout
        self._servers = _configured() if server is None else _of_host(*server)

    def find(self, name: dns.name.Name, kind: str) -> Found:
        """Return the records of type `kind`, following aliases unless that is CNAME.

        Raises `LookupFailure`, also if the aliases form a loop or a chain longer than `LONGEST_CHAIN`."""
        first = name
        aliases: list[dns.name.Name] = []
        whole: list[dns.rrset.RRset] = []
        while True:
            asked = name
            response = self._ask(name, kind)
            # Records of other classes do not answer the query, and their rdata have other attributes.
            answer = [rrset for rrset in response.answer if rrset.rdclass == dns.rdataclass.IN]
            whole += answer
            records: list[Any] = []
            while not (records := _of(answer, name, kind)):
                targets = _of(answer, name, "CNAME")
                if not targets:
                    break
                if name in aliases:
                    raise LookupFailure(f"{to_text(first)} is an alias in a loop: {_chain(aliases, name)}")
                if len(aliases) == LONGEST_CHAIN:
                    raise LookupFailure(
                        f"{to_text(first)} has more than {LONGEST_CHAIN} aliases: {_chain(aliases, name)}"
                    )
                aliases.append(name)
                name = targets[0].target
            # A response may have the alias without the records of its target, which are then queried next.
            missing = response.rcode() == dns.rcode.NXDOMAIN
            if records or missing or asked == name:
                return Found(name, not missing, records, aliases, whole)

    def _ask(self, name: dns.name.Name, kind: str) -> dns.message.Message:
        """Return a response with NOERROR or NXDOMAIN.  Servers that fail (SERVFAIL) or do not respond are tried again
        after all others.  Raises `LookupFailure`."""
        until = time.monotonic() + self._timeout
        problem = ""
        failures = 0
        while True:
            again = False
            for server in self._servers:
                if (left := until - time.monotonic()) <= 0:
                    reason = problem or f"no answer in {self._timeout:g} s"
                    raise LookupFailure(f"{to_text(name)} {kind}: {reason}")
                try:
                    response = single_query.query(name, kind, server, min(PATIENCE, left))
                except dns.exception.Timeout:
                    again = True
                    continue
                except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
                    problem = f"{_format_server(server)}: {_reason(error)}"
                    continue
                if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    return response
                if response.rcode() == dns.rcode.SERVFAIL:
                    failures, again = failures + 1, True
                problem = f"{_format_server(server)} answered {dns.rcode.to_text(response.rcode())}"
            rounds = -(-failures // len(self._servers))
            if problem and (not again or rounds >= ROUNDS):
                raise LookupFailure(f"{to_text(name)} {kind}: {problem}")
            if failures:
                time.sleep(max(0.0, min(PAUSE * 2 ** (rounds - 1), until - time.monotonic())))


def _of(answer: Sequence[dns.rrset.RRset], name: dns.name.Name, kind: str) -> list[Any]:
    return [
        rdata
        for rrset in answer
        if (rrset.name, rrset.rdtype) == (name, dns.rdatatype.from_text(kind))
        for rdata in rrset
    ]


def _configured() -> list[Any]:
    """Return the addresses of the servers in /etc/resolv.conf.  Raises `LookupFailure`."""
    try:
        servers = [str(server) for server in dns.resolver.Resolver().nameservers]
    except dns.exception.DNSException as error:
        raise LookupFailure(
            f"/etc/resolv.conf names no server: {_reason(error)}; name one with --server HOST"
        ) from error
    return [address for server in servers for address in _of_host(server, PORT)]


def _of_host(host: str, port: int) -> list[Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise LookupFailure(f"the server {host!r}: {tools.reason_of(error)}") from error
    return [(family, address) for family, _, _, _, address in found]


def _format_server(server: Any) -> str:
    host, port = server[1][:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _chain(aliases: Sequence[dns.name.Name], name: dns.name.Name) -> str:
    return ", ".join(map(to_text, [*aliases, name]))


def _reason(error: Exception) -> str:
    """Return the message of an error in one line, without the full stop of dnspython's messages."""
    return " ".join(tools.reason_of(error).split()).rstrip(".")
