"""Cookies in a file, as curl has it (``-b`` and ``-c``): the format of Netscape.

The standard library's `MozillaCookieJar` has the same seven fields, but takes a cookie without an expiry, which curl
marks with 0, for one that expired in 1970; and writes it in a way that curl does not read.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections import Counter
from contextlib import suppress
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request

import httpx2

from daemons.clients import tools
from daemons.clients.web.common import Failure
from daemons.clients.web.written import anew

HEAD = "# Netscape HTTP Cookie File\n\n"
HTTP_ONLY = "#HttpOnly_"

#: `http.cookiejar` puts this behind a host without a dot, such as localhost and [::1], and curl does not.
LOCAL = ".local"

#: Attribute of the cookies of such hosts, by which they differ from those of the host of that name.  No server can
#: set it: a semicolon ends an attribute.
BARE = ";bare"

#: Cookies of one response, and of a domain and of all together (RFC 6265, section 6.1, wants 50 and 3000 at least); and
#: characters of one.  A server could fill the memory, and make each request longer, without limits.
PER_RESPONSE, PER_DOMAIN, MOST = 50, 150, 3000
LONGEST = 5000

#: The end of the year 9999: no cookie lasts longer.
LATEST = 253_402_300_799

#: Nobody else's business.
MODE = 0o600


class Policy(DefaultCookiePolicy):
    """Cookies are printable ASCII (RFC 6265, section 4.1.1).  Others are not taken, and not sent where a file has them:
    a tab would be the end of a field there."""

    def set_ok(self, cookie: Cookie, request: Request) -> bool:
        if cookie.domain == LOCAL:  # of all hosts without a dot
            return False
        if _is_bare(urlsplit(request.full_url).hostname or ""):
            cookie.set_nonstandard_attr(BARE, "")
        return _printable(cookie) and super().set_ok(cookie, request)

    def return_ok(self, cookie: Cookie, request: Request) -> bool:
        if cookie.has_nonstandard_attr(BARE) != _is_bare(urlsplit(request.full_url).hostname or ""):
            return False
        return _printable(cookie) and super().return_ok(cookie, request)


class Cookies:
    """The cookies of a session; may be used by several threads at once."""

    def __init__(self, jar: CookieJar) -> None:
        self.jar = jar
        self._cookies = httpx2.Cookies(jar)
        self._lock = threading.Lock()

    def add_to(self, request: httpx2.Request) -> None:
        """Add the cookies that a server may have."""
        with self._lock:
            self._cookies.set_cookie_header(request)

    def take_from(self, response: httpx2.Response) -> None:
        """Keep the cookies that a response sets.  Each is read by itself: `http.cookiejar` drops all cookies of a
        response if its parser fails on one of them, and prints a traceback as a warning.  Such a cookie is ignored."""
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("error")
            if len(self.jar) >= MOST:
                return
            for line in response.headers.get_list("Set-Cookie")[:PER_RESPONSE]:
                if len(line) > LONGEST:
                    continue
                field = [(b"Set-Cookie", line.encode(response.headers.encoding))]
                with suppress(Exception):
                    self._cookies.extract_cookies(httpx2.Response(200, headers=field, request=response.request))
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Drop cookies of the domains that have more than `PER_DOMAIN`."""
        counts = Counter(cookie.domain for cookie in self.jar)
        for cookie in list(self.jar):
            if counts[cookie.domain] > PER_DOMAIN:
                counts[cookie.domain] -= 1
                self.jar.clear(cookie.domain, cookie.path, cookie.name)


def empty() -> CookieJar:
    return CookieJar(Policy())


def load(path: Path) -> CookieJar:
    """The cookies in a file that have not expired; none, where there is no file.  Raises `Failure`."""
    jar = empty()
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return jar
    except OSError as error:
        raise Failure(f"--jar {path}: {tools.reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"--jar {path}: not UTF-8 at octet {error.start}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and (not line.startswith("#") or line.startswith(HTTP_ONLY)):
            cookie = _cookie(line)
            if cookie is None:
                expected = "DOMAIN, TRUE or FALSE, PATH, TRUE or FALSE, EXPIRY, NAME, VALUE, with tabs between them"
                raise Failure(f"--jar {path} line {number}: not a cookie; expected {expected}")
            jar.set_cookie(cookie)
    jar.clear_expired_cookies()
    return jar


def save(jar: CookieJar, path: Path) -> None:
    """Those that have not expired, also those that a browser would forget when it is closed.  Raises `Failure`."""
    jar.clear_expired_cookies()
    try:
        with anew(path, MODE) as file:
            file.write((HEAD + "".join(map(_line, jar))).encode())
    except OSError as error:
        raise Failure(f"--jar {path}: {tools.reason_of(error)}") from error


def _is_bare(host: str) -> bool:
    return "." not in host


def _printable(cookie: Cookie) -> bool:
    return all(
        re.fullmatch(r"[\x20-\x7e]*", text) for text in (cookie.name, cookie.value or "", cookie.path, cookie.domain)
    )


def _cookie(line: str) -> Cookie | None:
    http_only = line.startswith(HTTP_ONLY)
    fields = line.removeprefix(HTTP_ONLY).split("\t")
    if (
        len(fields) != 7
        or not re.fullmatch(r"[0-9]{0,15}", fields[4])
        or not {fields[1], fields[3]} <= {"TRUE", "FALSE"}
    ):
        return None
    domain, below, path, secure, expires, name, value = fields
    if ":" in domain:  # an IPv6 address
        domain = f"[{domain.strip('[]')}]"
    below_too = below == "TRUE"
    is_bare = not below_too and _is_bare(domain)
    domain += LOCAL * is_bare
    if below_too and not domain.startswith("."):
        domain = f".{domain}"
    return Cookie(
        version=0,
        name=name,
        value=value,
        port=None,
        port_specified=False,
        domain=domain,
        domain_specified=below_too,
        domain_initial_dot=below_too,
        path=path,
        path_specified=True,
        secure=secure == "TRUE",
        expires=int(expires or 0) or None,
        discard=not int(expires or 0),
        comment=None,
        comment_url=None,
        rest=dict.fromkeys(["HttpOnly"] * http_only + [BARE] * is_bare, ""),
    )


def _line(cookie: Cookie) -> str:
    domain = cookie.domain
    if cookie.has_nonstandard_attr(BARE):
        domain = domain.removesuffix(LOCAL)
    domain = domain.strip("[]")
    fields = (
        (HTTP_ONLY if cookie.has_nonstandard_attr("HttpOnly") else "") + domain,
        "TRUE" if domain.startswith(".") else "FALSE",
        cookie.path,
        "TRUE" if cookie.secure else "FALSE",
        str(min(cookie.expires or 0, LATEST)),
        cookie.name,
        cookie.value or "",
    )
    return "\t".join(fields) + "\n"
