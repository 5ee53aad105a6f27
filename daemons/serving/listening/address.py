"""Listening addresses and their text form: ``tcp://127.0.0.1:1060``, ``udp://[::1]:7``, ``unix:run/echo.sock``."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, replace
from typing import Any

from daemons.settings.values import parse_port

#: Schemes with a host and a port.
INET = ("tcp", "tls", "udp")

#: Transport of a scheme, where it differs.
TRANSPORTS = {"tls": "tcp"}

#: Longest path of a Unix socket: sockaddr_un has room for 108 bytes, the last of them a NUL, unix(7).
UNIX_PATH_LIMIT = 107

#: Schemes of sockets bound by another process (`daemons.serving.listening.inherited`).
INHERITED = ("fd", "systemd")

#: Hosts that mean all addresses of one family.
WILDCARDS = ("0.0.0.0", "::")

#: Names that mean several hosts.
ALIASES = {"": WILDCARDS, "localhost": ("127.0.0.1", "::1")}


def host_of(sockaddr: tuple[Any, ...]) -> str:
    """Return the host of a socket address, with the zone if it has one (RFC 4007, section 11): ``fe80::1%eth0``."""
    host: str = sockaddr[0]
    if len(sockaddr) < 4 or not sockaddr[3] or "%" in host:
        return host
    try:
        zone = socket.if_indextoname(sockaddr[3])
    except OSError:  # the interface no longer exists
        zone = str(sockaddr[3])
    return f"{host}%{zone}"


@dataclass(frozen=True)
class Address:
    """One listening address.

    Internet addresses have `host` and `port`, Unix ones `path`.  For an inherited one, `path` is the number of the
    descriptor or systemd's name for it."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        if self.inherited:
            return f"{self.scheme}:{'//' if self.scheme == 'fd' else ''}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def inherited(self) -> bool:
        """Whether another process binds the socket."""
        return self.scheme in INHERITED

    @property
    def may_be_tcp(self) -> bool:
        """Whether its listeners are TCP without TLS, or may be: the type of inherited sockets is unknown."""
        return self.scheme == "tcp" or self.inherited

    @property
    def loopback(self) -> bool:
        """Whether it is reachable from this host only, as far as is known without DNS; True if inherited."""
        if self.scheme == "unix" or self.inherited or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False

    @property
    def wildcard(self) -> bool:
        """Whether it means all addresses of this host."""
        return self.scheme != "unix" and self.host in ("", *WILDCARDS)

    def at(self, host: str | None = None, port: int | None = None) -> Address:
        """Return a copy with another host or port; a Unix or inherited address unchanged."""
        if self.scheme == "unix" or self.inherited:
            return self
        return replace(self, host=self.host if host is None else host, port=self.port if port is None else port)

    def conflicts_with(self, other: Address) -> bool:
        """Return whether the two addresses conflict: they cannot be bound at the same time."""
        if TRANSPORTS.get(self.scheme, self.scheme) != TRANSPORTS.get(other.scheme, other.scheme):
            return False
        if self.scheme == "unix":
            return self.path == other.path
        if self.port != other.port or self.port == 0:
            return False
        if self.host == other.host:
            return True
        # An IPv6 listener accepts no IPv4 (IPV6_V6ONLY), so that each family has its own wildcard.
        return any(
            one == two or ((one in WILDCARDS or two in WILDCARDS) and (":" in one) == (":" in two))
            for one in ALIASES.get(self.host, (self.host,))
            for two in ALIASES.get(other.host, (other.host,))
        )


def parse_address(text: str) -> Address:
    """Parse an address.  Raise `ValueError` with the expected forms."""
    if match := re.fullmatch(r"unix:(?!//)(.+)", text):
        # The length of the absolute path is checked at the bind.
        return Address("unix", path=match[1])
    if match := re.fullmatch(r"(fd)://([0-9]{1,4})|(systemd):(?!//)([^\s:]*)", text):
        return Address(match[1] or match[3], path=match[2] or match[4] or "")
    if match := re.fullmatch(r"(\w+)://(\[[0-9A-Fa-f:.]+(?:%[^\s/:\[\]]+)?\]|[^\[\]:/\s]*):([\w-]+)/?", text):
        scheme, host, port = match.groups()
        if scheme in INET:
            return Address(scheme, host=host.strip("[]"), port=parse_port(port, "udp" if scheme == "udp" else "tcp"))
    raise ValueError(
        f"{text} is not an address; write tcp://127.0.0.1:1060, tcp://[::1]:1060, tls://127.0.0.1:1060, "
        "udp://127.0.0.1:1060, unix:run/name.sock, fd://0 or systemd:"
    )


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Parse addresses separated by white space."""
    return tuple(parse_address(word) for word in text.split())
