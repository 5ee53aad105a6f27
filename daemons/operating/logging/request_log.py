"""Request log: one line for each HTTP request, in a standard format."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias
from urllib.parse import quote

from daemons.framings.cache import HEAD, HEADS, BoundedCache
from daemons.operating.logging.lines import Lines

#: Formats: Combined Log Format of Apache, Common Log Format of NCSA httpd, JSON object, or none.
FORMS = ("combined", "common", "json", "no")

#: Maximum characters of the target; of the method, which may be any token; and of the user, the referrer and the user
#: agent.  So a line stays below `daemons.operating.logging.logs.LINE_LIMIT`.
MAX_TARGET = 1500
MAX_METHOD = 100
MAX_FIELD = 500

#: Approximate overhead in bytes of a cached entry.
ENTRY = 500

#: Parts of a line: between host and time, and after the time.
Entry: TypeAlias = tuple[str, str]

_SPECIAL = re.compile(r'["\\]|[^ -~]')


class Request(Protocol):
    """Interface of a request: `daemons.framings.http.Request`."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def version(self) -> tuple[int, int]: ...
    def field(self, name: bytes, /) -> str: ...
    def __hash__(self) -> int: ...
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...


class RequestLog(Lines):
    """Logs requests of the daemon `name` to the logger ``daemons.NAME.requests``, in one of `FORMS`."""

    def __init__(self, name: str, form: str, *, together: bool = False) -> None:
        self._open, self._entry, self._clock = _FORMS[form]
        self._known: BoundedCache[tuple[object, int, int | None, str], Entry] = BoundedCache(HEADS)
        super().__init__(f"daemons.{name}.requests", (logging.INFO,), together=together)

    def entry(self, request: Request, status: int, size: int | None, user: str = "") -> Entry:
        """Return the entry of a request.

        Args:
            size: bytes of the response body; None if unknown
            user: the authenticated user
        """
        key = (request, status, size, user)
        known = self._known.get(key)
        if known is None:
            known = self._entry(request, status, size, user)
            if len(request) <= HEAD:
                # The bytes, since the request object would keep its body in memory.
                room = ENTRY + len(request) + len(user) + sum(map(len, known))
                self._known.keep((bytes(request), status, size, user), known, room)
        return known

    def log(self, host: str, entry: Entry) -> None:
        """Log a request of `host` whose response is sent now."""
        if self.enabled[logging.INFO]:
            now = time.monotonic()
            event = now, logging.INFO, (host, *entry)
            if self.holds:
                self.waiting.append(event)
                self.hold(now)
            else:
                self.put(event)

    def form(self, now: float) -> str:
        date = self._clock(time.time() - (time.monotonic() - now))
        return f"{self._open}%s%s{date}%s"


def _common(request: Request, status: int, size: int | None, user: str) -> Entry:
    major, minor = request.version
    line = f"{_method(request)} {_quoted(request.target, MAX_TARGET)} HTTP/{major}.{minor}"
    # The user is not quoted in this format, so blanks and quotation marks are percent-encoded.
    name = quote(user[: MAX_FIELD // 12], safe="@+") or "-"
    return f" - {name} [", f'] "{line}" {status} {"-" if size is None else size}'


def _combined(request: Request, status: int, size: int | None, user: str) -> Entry:
    before, after = _common(request, status, size, user)
    named = (_quoted(request.field(name), MAX_FIELD) or "-" for name in (b"referer", b"user-agent"))
    return before, f'{after} "{next(named)}" "{next(named)}"'


def _json(request: Request, status: int, size: int | None, user: str) -> Entry:
    major, minor = request.version
    fields = {
        "user": _short(user, MAX_FIELD) or None,
        "method": _method(request),
        "target": _short(request.target, MAX_TARGET),
        "version": f"{major}.{minor}",
        "status": status,
        "size": size,
        "referer": _short(request.field(b"referer"), MAX_FIELD) or None,
        "agent": _short(request.field(b"user-agent"), MAX_FIELD) or None,
    }
    return '","time":"', f'",{json.dumps(fields)[1:]}'


def _method(request: Request) -> str:
    method = request.method
    return method if len(method) <= MAX_METHOD else method[:MAX_METHOD] + "..."


def _quoted(text: str, longest: int) -> str:
    r"""Return the text escaped as by Apache: ``\"``, ``\\``, ``\xhh``."""
    quoted = _SPECIAL.sub(_escape, text)
    return quoted if len(quoted) <= longest else _SPECIAL.sub(_escape, text[: longest // 4]) + "..."


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return "\\" + character if character in '"\\' else "".join(f"\\x{byte:02x}" for byte in character.encode())


def _short(text: str, longest: int) -> str:
    # A non-ASCII character takes six characters in JSON.
    return text if len(json.dumps(text)) <= longest else text[: longest // 6] + "..."


def _date(seconds: float) -> str:
    """Return ``21/Nov/2026:17:20:01 +0000``, with English month names."""
    year, month, day, *clock = time.gmtime(seconds)[:6]
    return f"{day:02}/{_MONTHS[month - 1]}/{year}:{clock[0]:02}:{clock[1]:02}:{clock[2]:02} +0000"


def _timestamp(seconds: float) -> str:
    """Return ``2026-11-21T17:20:01Z``, RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: Form → beginning of a line, function for the entry, and function for the time.
_FORMS: dict[str, tuple[str, Callable[[Request, int, int | None, str], Entry], Callable[[float], str]]] = {
    "combined": ("", _combined, _date),
    "common": ("", _common, _date),
    "json": ('{"host":"', _json, _timestamp),
}
