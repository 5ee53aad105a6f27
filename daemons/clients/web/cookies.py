"""Cookies, and cookie files in the Netscape format of curl (``-b`` and ``-c``).

The standard library's `MozillaCookieJar` has the same seven fields, but treats a session cookie, with the expiry
0 in curl's files, as expired in 1970, and writes it in a form that curl does not read.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request

import httpx2

from daemons.clients import tools
from daemons.clients.web.atomic_write import replace_file
from daemons.clients.web.common import Failure

HEAD = "# Netscape HTTP Cookie File\n\n"
HTTP_ONLY = "#HttpOnly_"

#: The suffix that `http.cookiejar` appends to a host without a dot, such as localhost and [::1]; curl does not.
LOCAL = ".local"

#: Attribute of the cookies of hosts without a dot, which distinguishes localhost from localhost.local.  No server can
#: set it, since a semicolon ends an attribute.
BARE = ";bare"

#: Maximum cookies of one response, of one domain and in total (RFC 6265, section 6.1, requires at least 50 and 3000 of
#: the last two), and maximum characters of a cookie: servers must not exhaust memory or bloat all requests.
PER_RESPONSE, PER_DOMAIN, MOST = 50, 150, 3000
LONGEST = 5000

#: Latest expiry: the end of the year 9999.
LATEST = 253_402_300_799

#: Mode of the cookie file: cookies are secrets.
MODE = 0o600

#: Maximum size of a jar in bytes: room for the 3000 cookies of 4096 bytes that RFC 6265, section 6.1, asks for.
LARGEST = 16 * 1024**2

#: Seconds to wait for other processes that save the same jar; each takes a few milliseconds.
PATIENCE = 10.0


class Policy(DefaultCookiePolicy):
    """Accepts and sends only cookies of printable ASCII (RFC 6265, section 4.1.1): in the file, a tab ends a field."""

    def set_ok(self, cookie: Cookie, request: Request) -> bool:
        if cookie.domain == LOCAL:  # a cookie for all hosts without a dot
            return False
        if _is_bare(urlsplit(request.full_url).hostname or ""):
            cookie.set_nonstandard_attr(BARE, "")
        return _printable(cookie) and super().set_ok(cookie, request)

    def return_ok(self, cookie: Cookie, request: Request) -> bool:
        if cookie.has_nonstandard_attr(BARE) != _is_bare(urlsplit(request.full_url).hostname or ""):
            return False
        return _printable(cookie) and super().return_ok(cookie, request)


class Cookies:
    """The cookies of a session; thread-safe."""

    def __init__(self, jar: CookieJar) -> None:
        self.jar = jar
        self._cookies = httpx2.Cookies(jar)
        self._lock = threading.Lock()

    def add_to(self, request: httpx2.Request) -> None:
        """Add the cookies that apply to the URL of a request."""
        with self._lock:
            self._cookies.set_cookie_header(request)

    def take_from(self, response: httpx2.Response) -> None:
        """Store the cookies that a response sets.

        Each is parsed separately, and ignored if the parser fails: given all, `http.cookiejar` drops all cookies of a
        response if one is malformed, and prints a traceback as a warning."""
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
        """Remove the oldest cookies of domains with more than `PER_DOMAIN`."""
        counts = Counter(cookie.domain for cookie in self.jar)
        for cookie in list(self.jar):
            if counts[cookie.domain] > PER_DOMAIN:
                counts[cookie.domain] -= 1
                self.jar.clear(cookie.domain, cookie.path, cookie.name)


def empty() -> CookieJar:
    return CookieJar(Policy())


class JarFile:
    """A cookie file, which several processes may share: `save` merges the cookies that this process has set, changed or
    deleted into those that other processes have saved.  Raises `Failure`, also when created."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.jar = _load(path)
        #: The lines of the file at the time it was loaded or last saved.
        self._loaded = _lines(self.jar)

    def save(self) -> None:
        """Write the cookies that have not expired, session cookies included.  Raises `Failure`."""
        self.jar.clear_expired_cookies()
        ours, loaded = _lines(self.jar), self._loaded
        try:
            with _locked(self._path):
                lines = _lines(_load(self._path))
                for key in loaded.keys() - ours.keys():
                    if lines.get(key) == loaded[key]:  # otherwise another process has set it again
                        del lines[key]
                lines |= {key: line for key, line in ours.items() if line != loaded.get(key)}
                with replace_file(self._path, MODE) as file:
                    file.write((HEAD + "".join(lines.values())).encode())
        except OSError as error:
            raise Failure(f"--jar {self._path}: {tools.reason_of(error)}") from error
        self._loaded = ours


def _load(path: Path) -> CookieJar:
    """Return a jar of the cookies in a file that have not expired, empty if the file does not exist.  Raises
    `Failure`."""
    jar = empty()
    try:
        text = _read(path).decode("utf-8-sig")
    except FileNotFoundError:
        return jar
    except OSError as error:
        raise Failure(f"--jar {path}: {tools.reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"--jar {path}: not UTF-8 at byte {error.start}") from error
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")  # otherwise a part of the value, which would not be sent
        if line.strip() and (not line.startswith("#") or line.startswith(HTTP_ONLY)):
            cookie = _cookie(line)
            if cookie is None:
                expected = "DOMAIN, TRUE or FALSE, PATH, TRUE or FALSE, EXPIRY, NAME, VALUE, with tabs between them"
                raise Failure(f"--jar {path} line {number}: not a cookie; expected {expected}")
            jar.set_cookie(cookie)
    jar.clear_expired_cookies()
    return jar


def _read(path: Path) -> bytes:
    """Return the content of a file.  Raises `OSError`, and `Failure` if it is not regular or longer than `LARGEST`."""
    # Without O_NONBLOCK, opening a FIFO would wait for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Failure(f"--jar {path}: not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise Failure(f"--jar {path}: more than {LARGEST // 1024**2} MiB; expected a file of cookies")
    return content


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock (flock(2)) of the file at `path`, which is created if it does not exist.  Raises `OSError`, and
    `Failure` if other processes hold the lock for more than `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, MODE)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The previous holder of the lock may have replaced the file.
                if _is_named(descriptor, path):
                    yield
                    return
            if time.monotonic() > until:
                raise Failure(f"--jar {path}: locked by another process for more than {PATIENCE:g} s")
        finally:
            os.close(descriptor)
        time.sleep(0.01)


def _is_named(descriptor: int, path: Path) -> bool:
    """Return whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lines(jar: CookieJar) -> dict[tuple[str, str, str], str]:
    """Return the line of each cookie by its domain, path and name, which identify it (RFC 6265, section 5.3)."""
    return {(cookie.domain, cookie.path, cookie.name): _line(cookie) for cookie in jar}


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
