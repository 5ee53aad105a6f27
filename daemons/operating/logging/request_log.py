"""The request line: one for each request of a service that speaks HTTP, in a form that other programs read."""

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

#: Forms: the Common Log Format of NCSA httpd, the Combined one of Apache, and a JSON object; or none.
FORMS = ("combined", "common", "json", "no")

#: Characters shown of the target; of the user's name, the referrer and the user agent; and of the method, which
#: may be any token.  With these a line stays below `daemons.operating.logging.logs.LINE_LIMIT`.
LONGEST_TARGET = 1500
LONGEST_METHOD = 100
LONGEST = 500

#: Bytes of a remembered entry beside its characters; roughly.
ENTRY = 500

#: What of a request's line stands before the time, after the host, and what behind it.
Entry: TypeAlias = tuple[str, str]

_SPECIAL = re.compile(r'["\\]|[^ -~]')


class Request(Protocol):
    """What is told of a request: a `daemons.framings.http.Request`."""

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
    """Writes the request lines of the daemon `name`, to the logger ``daemons.NAME.requests``, in a form of `FORMS`."""

    def __init__(self, name: str, form: str, *, together: bool = False) -> None:
        self._open, self._entry, self._clock = _FORMS[form]
        self._known: BoundedCache[tuple[object, int, int | None, str], Entry] = BoundedCache(HEADS)
        super().__init__(f"daemons.{name}.requests", (logging.INFO,), together=together)

    def entry(self, request: Request, status: int, size: int | None, user: str = "") -> Entry:
        """What there is to say of a request and its answer, whose body has `size` octets (None: nobody knows yet);
        `user` is who has proved to be that."""
        key = (request, status, size, user)
        known = self._known.get(key)
        if known is None:
            known = self._entry(request, status, size, user)
            if len(request) <= HEAD:
                # The octets alone: the request would keep its body.
                room = ENTRY + len(request) + len(user) + sum(map(len, known))
                self._known.put((bytes(request), status, size, user), known, room)
        return known

    def tell(self, host: str, entry: Entry) -> None:
        """Write the line of a request that `host` has made, and that is answered now."""
        if self.enabled[logging.INFO]:
            now = time.monotonic()
            told = now, logging.INFO, (host, *entry)
            if self.holds:
                self.waiting.append(told)
                self.hold(now)
            else:
                self.put(told)

    def form(self, now: float) -> str:
        date = self._clock(time.time() - (time.monotonic() - now))
        return f"{self._open}%s%s{date}%s"


def _common(request: Request, status: int, size: int | None, user: str) -> Entry:
    major, minor = request.version
    asked = f"{_method(request)} {_quoted(request.target, LONGEST_TARGET)} HTTP/{major}.{minor}"
    # In quotes it is not, so that a blank or a quotation mark in it would be taken for the end of something.
    who = quote(user[: LONGEST // 12], safe="@+") or "-"
    return f" - {who} [", f'] "{asked}" {status} {"-" if size is None else size}'


def _combined(request: Request, status: int, size: int | None, user: str) -> Entry:
    before, after = _common(request, status, size, user)
    named = (_quoted(request.field(name), LONGEST) or "-" for name in (b"referer", b"user-agent"))
    return before, f'{after} "{next(named)}" "{next(named)}"'


def _json(request: Request, status: int, size: int | None, user: str) -> Entry:
    major, minor = request.version
    fields = {
        "user": _short(user, LONGEST) or None,
        "method": _method(request),
        "target": _short(request.target, LONGEST_TARGET),
        "version": f"{major}.{minor}",
        "status": status,
        "size": size,
        "referer": _short(request.field(b"referer"), LONGEST) or None,
        "agent": _short(request.field(b"user-agent"), LONGEST) or None,
    }
    return '","time":"', f'",{json.dumps(fields)[1:]}'


def _method(request: Request) -> str:
    method = request.method
    return method if len(method) <= LONGEST_METHOD else method[:LONGEST_METHOD] + "..."


def _quoted(text: str, longest: int) -> str:
    r"""As Apache writes it: ``\"``, ``\\``, ``\xhh``."""
    quoted = _SPECIAL.sub(_escape, text)
    return quoted if len(quoted) <= longest else _SPECIAL.sub(_escape, text[: longest // 4]) + "..."


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return "\\" + character if character in '"\\' else "".join(f"\\x{octet:02x}" for octet in character.encode())


def _short(text: str, longest: int) -> str:
    # What is not ASCII takes six characters.
    return text if len(json.dumps(text)) <= longest else text[: longest // 6] + "..."


def _date(seconds: float) -> str:
    """``21/Nov/2026:17:20:01 +0000``: of the months, the English names."""
    year, month, day, *clock = time.gmtime(seconds)[:6]
    return f"{day:02}/{_MONTHS[month - 1]}/{year}:{clock[0]:02}:{clock[1]:02}:{clock[2]:02} +0000"


def _timestamp(seconds: float) -> str:
    """``2026-11-21T17:20:01Z``, RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: What a line opens with, who makes an entry, and who writes the time.
_FORMS: dict[str, tuple[str, Callable[[Request, int, int | None, str], Entry], Callable[[float], str]]] = {
    "combined": ("", _combined, _date),
    "common": ("", _common, _date),
    "json": ('{"host":"', _json, _timestamp),
}
