"""Asking the DNS itself, with dnspython: for records that the system's name service does not give out (MX, NS, …).

Whoever wants an address asks the system (`daemons.clients.net.system`), which knows /etc/hosts and has caches.
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

#: How many aliases are followed; RFC 1034, section 3.6.2, wants chains followed, and loops signalled.
LONGEST_CHAIN = 8

#: Seconds that one server has to answer before the next one is asked.
PATIENCE = 2.0

#: Rounds over the servers after errors that may pass, and seconds between the first two; then twice as many.  RFC 9520,
#: section 3.1, wants few retries, and a pause.
ROUNDS, PAUSE = 3, 0.2


class LookupFailure(tools.ToolError):
    """Nobody could tell, which is not the same as that there is none.  The text says what was asked and why."""


class Found(NamedTuple):
    """What there is of one type at a name, or at the name that it is an alias for."""

    #: The name at the end of the aliases.
    name: dns.name.Name
    #: Whether there is such a name.
    exists: bool
    #: The records: ``rdata`` of dnspython; none where the name has none of this type.
    records: list[Any]
    #: Where the name is an alias: first itself, then each alias that was passed, without the last name.
    aliases: list[dns.name.Name]
    #: All that was answered, the aliases too, as it came.
    answer: list[dns.rrset.RRset]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that all tools of the DNS have."""
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        type=lambda text: tools.host_and_port(text, PORT),
        help="whom to ask; else the servers in /etc/resolv.conf",
    )
    tools.add_timeout(parser)


def run(word: str, options: argparse.Namespace, tool: Callable[[Resolver], int]) -> int:
    """A tool of the DNS, given whom to ask; returns its exit code, or says what was wrong."""
    if MISSING:
        return tools.refuse(word, "the package dnspython is not installed: pip install 'camelot-daemons[dns]'")
    return tool(Resolver(options.server, options.timeout))


def name_of(text: str) -> dns.name.Name:
    """An absolute name from what a person writes.  Raises `LookupFailure`."""
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise LookupFailure(f"{text!r} is no domain name: {_reason(error)}") from error


def shown(name: dns.name.Name) -> str:
    r"""As a person writes it: without the dot at its end.  Octets that are not printable are written ``\027``."""
    return name.to_text(omit_final_dot=True)


def type_name(kind: int) -> str:
    """``MX``; of one that has no name, ``TYPE65280`` (RFC 3597)."""
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(kind))


class Resolver:
    """Asks recursive servers, or an authoritative one for what it knows."""

    def __init__(self, server: tuple[str, int] | None, timeout: float) -> None:
        """`server` is a host and a port; `timeout` is in seconds, for each question.  Raises `LookupFailure`."""
        self._timeout = timeout
        self._servers = _configured() if server is None else _of_host(*server)

    def find(self, name: dns.name.Name, kind: str) -> Found:
        """The records of type `kind`, at the end of the aliases; of an alias itself where that is CNAME.

        Raises `LookupFailure`, also for aliases in a loop or longer than `LONGEST_CHAIN`."""
        first = name
        aliases: list[dns.name.Name] = []
        whole: list[dns.rrset.RRset] = []
        while True:
            asked = name
            response = self._ask(name, kind)
            # Records of other classes are no answer, and dnspython has other types for them.
            answer = [rrset for rrset in response.answer if rrset.rdclass == dns.rdataclass.IN]
            whole += answer
            records: list[Any] = []
            while not (records := _of(answer, name, kind)):
                targets = _of(answer, name, "CNAME")
                if not targets:
                    break
                if name in aliases:
                    raise LookupFailure(f"{shown(first)} is an alias in a loop: {_chain(aliases, name)}")
                if len(aliases) == LONGEST_CHAIN:
                    raise LookupFailure(
                        f"{shown(first)} has more than {LONGEST_CHAIN} aliases: {_chain(aliases, name)}"
                    )
                aliases.append(name)
                name = targets[0].target
            # Where a server told of the alias alone, what it stands for is asked for next.
            nothing = response.rcode() == dns.rcode.NXDOMAIN
            if records or nothing or asked == name:
                return Found(name, not nothing, records, aliases, whole)

    def _ask(self, name: dns.name.Name, kind: str) -> dns.message.Message:
        """Return one answer: NOERROR or NXDOMAIN.  A server that fails (SERVFAIL), or does not answer, is asked again
        when all others have been.  Raises `LookupFailure`."""
        until = time.monotonic() + self._timeout
        problem = ""
        failures = 0
        while True:
            again = False
            for server in self._servers:
                if (left := until - time.monotonic()) <= 0:
                    reason = problem or f"no answer in {self._timeout:g} s"
                    raise LookupFailure(f"{shown(name)} {kind}: {reason}")
                try:
                    response = single_query.query(name, kind, server, min(PATIENCE, left))
                except dns.exception.Timeout:
                    again = True
                    continue
                except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
                    problem = f"{_written(server)}: {_reason(error)}"
                    continue
                if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    return response
                if response.rcode() == dns.rcode.SERVFAIL:
                    failures, again = failures + 1, True
                problem = f"{_written(server)} answered {dns.rcode.to_text(response.rcode())}"
            rounds = -(-failures // len(self._servers))
            if problem and (not again or rounds >= ROUNDS):
                raise LookupFailure(f"{shown(name)} {kind}: {problem}")
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
    """The servers in /etc/resolv.conf."""
    try:
        servers = [str(server) for server in dns.resolver.Resolver().nameservers]
    except dns.exception.DNSException as error:
        raise LookupFailure(
            f"/etc/resolv.conf names no server: {_reason(error)}; name one with --server HOST"
        ) from error
    return [place for server in servers for place in _of_host(server, PORT)]


def _of_host(host: str, port: int) -> list[Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise LookupFailure(f"the server {host!r}: {tools.reason_of(error)}") from error
    return [(family, address) for family, _, _, _, address in found]


def _written(server: Any) -> str:
    host, port = server[1][:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _chain(aliases: Sequence[dns.name.Name], name: dns.name.Name) -> str:
    return ", ".join(map(shown, [*aliases, name]))


def _reason(error: Exception) -> str:
    """One line, without the full stop that dnspython's texts have."""
    return " ".join(tools.reason_of(error).split()).rstrip(".")
