"""URLs of web servers: parsing, comparison, display and resolution of redirects."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx2

from daemons.clients import tools
from daemons.clients.web.common import Failure
from daemons.printable import escape


def parse(text: str) -> httpx2.URL:
    """Parse a URL.  Raises `Failure` if it is malformed."""
    try:
        return _checked(httpx2.URL(text))
    except (httpx2.InvalidURL, ValueError) as error:
        raise Failure(f"{text[:200]}: {tools.reason_of(error)}") from error


def _checked(url: httpx2.URL) -> httpx2.URL:
    """Return `url` if it can be copied.  Raises `httpx2.InvalidURL` otherwise: percent-encoding may have made a part of
    it longer than the limit that httpx2 applies to each part of a copy."""
    display(url)
    return url


def display(url: httpx2.URL) -> str:
    """Return a URL for messages, without user and password."""
    return str(url.copy_with(userinfo=b""))


def asked_for(url: httpx2.URL) -> str:
    """Return the target URI: a URL without user, password and fragment (RFC 9110, section 7.1)."""
    return str(url.copy_with(userinfo=b"", fragment=None))


def origin(url: httpx2.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


def authority(url: str) -> str:
    """Return host and port of a URL, normalized as by `httpx2.URL`: in lower case, without user and password, and
    without the default port."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(":")
    return host.removesuffix({"http": ":80", "https": ":443"}.get(parts.scheme, ""))


def host_field(url: httpx2.URL) -> bytes:
    """Return the value of the field Host.  The zone of an IPv6 address is local to this machine and not sent (RFC 6874,
    section 3)."""
    return re.sub(rb"%[^\]]*", b"", url.netloc)


def host_to_connect(host: str) -> str:
    """Return a host for getaddrinfo(3).  In a URL the zone of an IPv6 address follows ``%25`` (RFC 6874) or, as curl
    accepts it, ``%``."""
    address, percent, zone = host.partition("%")
    return f"{address}%{zone.removeprefix('25')}" if percent and ":" in address else host


def redirected(url: httpx2.URL, location: str) -> httpx2.URL:
    """Return the target of a redirect from `url`.  Raises `Failure` if it is not an http or https URL."""
    try:
        target = _checked(url.join(location))
        if not target.raw_host or target.scheme not in ("http", "https"):
            raise ValueError
    except (httpx2.InvalidURL, ValueError) as error:
        shown = escape(location[:200])
        raise Failure(f"{display(url)}: redirected to {shown!r}, which is not a web URL") from error
    address, percent, _ = url.raw_host.partition(b"%")
    if percent and target.raw_host == address:  # keeps the zone, which the server does not know
        target = target.copy_with(host=url.raw_host.decode("ascii"))
    return target if target.fragment or not url.fragment else target.copy_with(fragment=url.fragment)
