"""Redirects, also from HTTP to HTTPS (RFC 9110, section 15.4)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from daemons.framings.http import Request
from daemons.settings.values import FieldType, either
from daemons.web.responses import ResponseCache, error
from daemons.web.site.prefix_map import PREFIX, PrefixMap, names_of

#: Statuses of the setting: Moved Permanently, Found, See Other, Temporary Redirect, Permanent Redirect, and Gone.
STATUSES = ("301", "302", "303", "307", "308", "410")

#: Ending of a path that stands for all paths below.
ALL = "/*"

#: A URL or path (RFC 3986, section 2).  A path must not begin with //, which would be another host.
_TARGET = re.compile(r"(?:https?://[A-Za-z0-9.\[\]:-]+)?(?:/(?!/)[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]*)?")

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")


class Redirect(NamedTuple):
    """A status, and the target; empty for 410."""

    status: int
    target: str


def _redirect(text: str) -> Redirect:
    status, _, target = text.partition(" ")
    target = target.strip()
    if status not in STATUSES:
        raise ValueError(f"does not begin with a status, {either(STATUSES)}; write 301 /new")
    if status == "410":
        if target:
            raise ValueError("410 has no target; write 410 alone")
    elif not target or not _TARGET.fullmatch(target):
        raise ValueError(f"no target; write {status} /new, or {status} https://example.org/new")
    return Redirect(int(status), target)


def _moved(text: str) -> str:
    """Parse a path that may end with ``/*``."""
    bare = text.removesuffix(ALL)
    if "*" in bare:
        raise ValueError("a * is allowed only after the last slash; write /name/*")
    return (PREFIX.parse(bare or "/") + ALL).replace("//", "/") if bare != text else PREFIX.parse(text)


REDIRECT: FieldType[Redirect] = FieldType(
    _redirect, lambda to: f"{to.status} {to.target}".rstrip(), "status and target"
)
REDIRECT_PATH: FieldType[str] = FieldType(_moved, str, "path")


def find_loop(moved: Mapping[str, Redirect]) -> str | None:
    """Return the first path that is redirected to itself or below itself, which would loop; None if there is none."""
    for key, (_, target) in moved.items():
        names, below = (
            names_of(key.removesuffix(ALL) or "/"),
            names_of(target.partition("?")[0].removesuffix(ALL) or "/"),
        )
        if target.startswith("/") and names is not None and below is not None:
            start = () if names == (b"",) else names
            if below == names or (key.endswith(ALL) and below[: len(start)] == start):
                return key
    return None


class RedirectMap:
    """Redirects of single paths, with and without a trailing slash, and of subtrees."""

    def __init__(self, moved: Mapping[str, Redirect]) -> None:
        self._exact = {names_of(key): to for key, to in moved.items() if not key.endswith(ALL)}
        self._below = PrefixMap({key.removesuffix(ALL) or "/": to for key, to in moved.items() if key.endswith(ALL)})

    def respond(self, request: Request, cache: ResponseCache, names: tuple[bytes, ...]) -> bytes | None:
        """Return the redirect of a path; None if there is none."""
        bare = names[:-1] if len(names) > 1 and not names[-1] else names
        exact = self._exact.get(bare)
        found = self._below.find(names) if exact is None else None
        if exact is None and found is None:
            return None
        to = exact or found.value  # type: ignore[union-attr]  # one of them is not None
        if to.status == 410:
            return error(request, 410, cache)
        path, _, query = request.path.partition("?")
        where = to.target
        if found is not None and where.endswith(ALL):
            rest = path.split("/")[-len(found.rest) :] if found.rest else []
            where = where.removesuffix("*") + _quoted("/".join(rest))
        if query and "?" not in where and "#" not in where:
            where += "?" + _quoted(query, "?")
        return error(request, to.status, cache, [("Location", where)])


class Https(NamedTuple):
    """The target of redirects to HTTPS; with an empty host, the host of the request."""

    host: str
    port: int


def _https(text: str) -> Https:
    match = re.fullmatch(r"(?:(\d{1,5})|([A-Za-z][A-Za-z0-9._-]*|[0-9.]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?)", text)
    port = int((match[1] or match[3] or 443) if match else 0)
    if match is None or not 0 < port < 65536 or (match[2] and not _is_host(match[2])):
        raise ValueError("neither a port nor a host; write 8443, or example.org, or example.org:8443")
    return Https(match[2] or "", port)


def _show_https(https: Https) -> str:
    return f"{https.host}:{https.port}" if https.host else str(https.port)


HTTPS: FieldType[Https] = FieldType(_https, _show_https, "port or host")


def to_https(request: Request, cache: ResponseCache, https: Https) -> bytes:
    """Return a redirect to HTTPS: 301 for GET and HEAD, and 308, which keeps the method, for others.

    If the host is missing or invalid, return 400."""
    match = _HOST.fullmatch(request.field(b"host"))
    host = https.host or (match[1] if match and _is_host(match[1]) else "")
    if not host or not (request.path.startswith("/") or request.path == "*"):
        return error(request, 400, cache)
    path, mark, query = request.path.removeprefix("*").partition("?")
    port = "" if https.port == 443 else f":{https.port}"
    where = f"https://{host}{port}{_quoted(path or '/')}{mark}{_quoted(query, '?')}"
    return error(request, 301 if request.method in ("GET", "HEAD") else 308, cache, [("Location", where)])


def _is_host(text: str) -> bool:
    """Return whether `text` is a DNS name or an IP address."""
    if text.startswith("[") or re.fullmatch(r"[0-9.]+", text):
        try:
            ipaddress.ip_address(text.strip("[]"))
        except ValueError:
            return False
        return True
    return len(text) <= 253 and all(map(_LABEL.fullmatch, text.removesuffix(".").split(".")))


def _quoted(text: str, more: str = "") -> str:
    return quote(text, safe="/%:@!$&'()*+,;=~" + more)
