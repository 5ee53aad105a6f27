"""Elsewhere: what has moved, and what is to be asked for over TLS (RFC 9110, section 15.4)."""

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

#: What may be written: moved for good, found elsewhere for now, look there with GET; for now and for good with the same
#: method and body; and gone.
STATUSES = ("301", "302", "303", "307", "308", "410")

#: What stands for whatever is below.
ALL = "/*"

#: Of a URL's own characters (RFC 3986, section 2); a second slash would begin another host.
_TARGET = re.compile(r"(?:https?://[A-Za-z0-9.\[\]:-]+)?(?:/(?!/)[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]*)?")

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")


class Redirect(NamedTuple):
    """A status, and where to; nowhere where it is gone."""

    status: int
    target: str


def _redirect(text: str) -> Redirect:
    status, _, target = text.partition(" ")
    target = target.strip()
    if status not in STATUSES:
        raise ValueError(f"it begins with none of the statuses {either(STATUSES)}; write 301 /new")
    if status == "410":
        if target:
            raise ValueError("what is gone is nowhere else; write 410 alone")
    elif not target or not _TARGET.fullmatch(target):
        raise ValueError(f"no target; write {status} /new, or {status} https://example.org/new")
    return Redirect(int(status), target)


def _moved(text: str) -> str:
    """A path, which may end with ``/*``."""
    bare = text.removesuffix(ALL)
    if "*" in bare:
        raise ValueError("a * stands behind the last slash alone; write /name/*")
    return (PREFIX.parse(bare or "/") + ALL).replace("//", "/") if bare != text else PREFIX.parse(text)


REDIRECT: FieldType[Redirect] = FieldType(
    _redirect, lambda to: f"{to.status} {to.target}".rstrip(), "status and target"
)
REDIRECT_PATH: FieldType[str] = FieldType(_moved, str, "path")


def find_loop(moved: Mapping[str, Redirect]) -> str | None:
    """The first key that leads to below itself, where everybody would go round in circles; or None."""
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
    """What leads elsewhere: single paths, with and without a slash at the end, and subtrees."""

    def __init__(self, moved: Mapping[str, Redirect]) -> None:
        self._exact = {names_of(key): to for key, to in moved.items() if not key.endswith(ALL)}
        self._below = PrefixMap({key.removesuffix(ALL) or "/": to for key, to in moved.items() if key.endswith(ALL)})

    def respond(self, request: Request, cache: ResponseCache, names: tuple[bytes, ...]) -> bytes | None:
        """Where to go; None: nowhere else."""
        bare = names[:-1] if len(names) > 1 and not names[-1] else names
        exact = self._exact.get(bare)
        found = self._below.find(names) if exact is None else None
        if exact is None and found is None:
            return None
        to = exact or found.value  # type: ignore[union-attr]  # one of the two is there
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
    """Where the same is to be had over TLS; without a host, at the one that was asked."""

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
    """The same over TLS; with the same method, where that is not one to begin with.  400 where nobody can tell which
    host is meant."""
    match = _HOST.fullmatch(request.field(b"host"))
    host = https.host or (match[1] if match and _is_host(match[1]) else "")
    if not host or not (request.path.startswith("/") or request.path == "*"):
        return error(request, 400, cache)
    path, mark, query = request.path.removeprefix("*").partition("?")
    port = "" if https.port == 443 else f":{https.port}"
    where = f"https://{host}{port}{_quoted(path or '/')}{mark}{_quoted(query, '?')}"
    return error(request, 301 if request.method in ("GET", "HEAD") else 308, cache, [("Location", where)])


def _is_host(text: str) -> bool:
    """A name of the DNS, or an address."""
    if text.startswith("[") or re.fullmatch(r"[0-9.]+", text):
        try:
            ipaddress.ip_address(text.strip("[]"))
        except ValueError:
            return False
        return True
    return len(text) <= 253 and all(map(_LABEL.fullmatch, text.removesuffix(".").split(".")))


def _quoted(text: str, more: str = "") -> str:
    return quote(text, safe="/%:@!$&'()*+,;=~" + more)
