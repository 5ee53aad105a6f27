"""URLs of web servers: parsed, compared, shown, and resolved from a redirect."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx2

from daemons.clients import tools
from daemons.clients.web.common import Failure
from daemons.printable import escape


def parse(text: str) -> httpx2.URL:
    """Raises `Failure` if `text` is no URL."""
    try:
        return _checked(httpx2.URL(text))
    except (httpx2.InvalidURL, ValueError) as error:
        raise Failure(f"{text[:200]}: {tools.reason_of(error)}") from error


def _checked(url: httpx2.URL) -> httpx2.URL:
    """Return `url` if copies of it can be made.  Raises `httpx2.InvalidURL` otherwise: percent-encoding makes a URL
    longer, and the limit for the text of a URL is one for each part of a copy."""
    shown(url)
    return url


def shown(url: httpx2.URL) -> str:
    """Return a URL for people to read, without its password."""
    return str(url.copy_with(userinfo=b""))


def asked_for(url: httpx2.URL) -> str:
    """Return the URL as a server and a cache see it: without user, password and fragment (RFC 9110, section 7.1)."""
    return str(url.copy_with(userinfo=b"", fragment=None))


def origin(url: httpx2.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


def authority(url: str) -> str:
    """Return host and port of the text of a URL in the form that `httpx2.URL` gives them: in lower case, without user
    and password, and without the default port."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2].lower().removesuffix(":")
    return place.removesuffix({"http": ":80", "https": ":443"}.get(parts.scheme, ""))


def host_field(url: httpx2.URL) -> bytes:
    """Return the value of the field Host.  The zone of an IPv6 address has a meaning on this machine alone, and is not
    sent (RFC 6874, section 3)."""
    return re.sub(rb"%[^\]]*", b"", url.netloc)


def host_to_connect(host: str) -> str:
    """Return a host as getaddrinfo(3) takes it.  In a URL the zone of an IPv6 address is behind ``%25`` (RFC 6874) or,
    as curl accepts it, ``%``."""
    address, percent, zone = host.partition("%")
    return f"{address}%{zone.removeprefix('25')}" if percent and ":" in address else host


def redirected(url: httpx2.URL, location: str) -> httpx2.URL:
    """Return the target of a redirect.  Raises `Failure` if that is no URL of the web."""
    try:
        target = _checked(url.join(location))
        if not target.raw_host or target.scheme not in ("http", "https"):
            raise ValueError
    except (httpx2.InvalidURL, ValueError) as error:
        said = escape(location[:200])
        raise Failure(f"{shown(url)}: redirected to {said!r}, which is no URL of the web") from error
    address, percent, _ = url.raw_host.partition(b"%")
    if percent and target.raw_host == address:  # a server does not know the zone by which it was reached
        target = target.copy_with(host=url.raw_host.decode("ascii"))
    return target if target.fragment or not url.fragment else target.copy_with(fragment=url.fragment)
