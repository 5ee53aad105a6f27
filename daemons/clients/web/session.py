"""Asking web servers: with redirects, cookies, a cache, and one clear reason where there is no answer."""

from __future__ import annotations

import argparse
import base64
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

import httpx2

from daemons.clients import tools
from daemons.clients.net import tls_socket
from daemons.clients.web import common, content, cookies, location
from daemons.clients.web.common import Failure, tell
from daemons.clients.web.trace import Shown, Verbose
from daemons.clients.web.transport import Deadline, Transport
from daemons.serving.tls.context import client_context, is_truncation

if TYPE_CHECKING:
    from typing import Self

#: The word by which servers and robots.txt know us.
PRODUCT = "camelot-daemons"

#: Redirects that are followed, one after the other.
LONGEST_CHAIN = 10

#: RFC 9110, section 15.4; 300 and 304 lead nowhere.
REDIRECTS = frozenset((301, 302, 303, 307, 308))

#: Fields that are for one origin alone.
FOR_ONE = frozenset(("authorization", "cookie", "proxy-authorization", "host"))

#: Fields that say something about a body.
OF_A_BODY = frozenset(("content-type", "content-length", "content-encoding", "transfer-encoding", "if-range", "range"))

#: Characters of a reason that are reported: some exceptions quote all that a server sent.
LONGEST_REASON = 300

Fields = Iterable[tuple[str, str]]
Content = bytes | Iterable[bytes] | None


class Redirect(NamedTuple):
    """From where to where, and with which status."""

    status: int
    source: str
    location: str


class Session:
    """What is kept from one request to the next, made from the command line; to be used in a ``with``.  May be used by
    several threads at once.  A user and a password in ``options.url`` are taken out of it."""

    def __init__(self, options: argparse.Namespace, comment: str = "") -> None:
        self._deadline = Deadline()
        self._timeout: float | None = options.timeout
        self._cafile = Path(options.cafile) if options.cafile else None
        self._fields: list[tuple[str, str]] = options.headers
        url = location.parse(options.url)
        self._origin = location.origin(url)
        self._authorization = _basic(options.user) if options.user else None
        if url.userinfo:
            # From here on nobody shows the password by showing where something is.
            given = url.userinfo if b":" in url.userinfo else url.userinfo + b":"
            self._authorization = self._authorization or _authorization(unquote_to_bytes(given))
            options.url = location.shown(url)
        self._jar_file = cookies.JarFile(Path(options.jar)) if options.jar else None
        self._cookies = cookies.Cookies(cookies.empty() if self._jar_file is None else self._jar_file.jar)
        self._transport = Transport(
            partial(self._context, insecure=options.insecure),
            self._deadline,
            Verbose() if options.verbose else Shown(),
            options.proxy,
            options.unix_socket,
        )
        self._answers: httpx2.BaseTransport = self._transport
        if options.cache:
            from daemons.clients.web.cache import Cache

            self._answers = Cache(Path(options.cache), self._transport)
        agent = f"{PRODUCT}/{version(PRODUCT)}" + f" ({comment})" * bool(comment)
        self._always = [
            ("Accept", "*/*"),
            ("Connection", "keep-alive"),
            ("User-Agent", options.agent or agent),
            ("Accept-Encoding", content.ACCEPTED),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._answers.close()
        finally:
            if self._jar_file is not None:
                self._jar_file.save()

    def cut(self) -> None:
        """End all that other threads have asked for, at once."""
        self._transport.cut()

    @contextmanager
    def ask(
        self,
        method: str,
        url: str,
        fields: Fields = (),
        body: Content = None,
        *,
        follow: bool = True,
        admit: Callable[[str], None] = lambda url: None,
        redirected: Callable[[Redirect], None] | None = None,
    ) -> Iterator[httpx2.Response]:
        """The response to a request, whose body is still to be read, all of it within the deadline.

        Redirects are followed; `admit` is given each URL before it is asked for, and may raise; `redirected` is told of
        each, which is otherwise told on standard error.  The method and the body stay what they are under 307 and 308
        alone; otherwise the next request is a GET.  Credentials, and fields like them, are for the origin of the URL
        on the command line.
        Raises `Failure`."""
        self._deadline.begin(self._timeout, common.PATIENCE)
        target = location.parse(url)
        given = [*self._fields, *fields]
        for _ in range(LONGEST_CHAIN + 1):
            with self._deadline.paused():
                admit(location.asked_for(target))
            response = self._send(method, target, given, body)
            try:
                if not follow or response.status_code not in REDIRECTS or "Location" not in response.headers:
                    yield response
                    return
            finally:
                response.close()
            source, target = target, location.redirected(target, response.headers["Location"])
            (redirected or _tell)(Redirect(response.status_code, location.shown(source), location.shown(target)))
            if response.status_code not in (307, 308) and method not in ("GET", "HEAD"):
                method, body = "GET", None
                given = [(name, text) for name, text in given if name.lower() not in OF_A_BODY]
        raise Failure(f"{url}: more than {LONGEST_CHAIN} redirects, the last to {location.shown(target)}")

    def _send(self, method: str, url: httpx2.URL, fields: list[tuple[str, str]], body: Content) -> httpx2.Response:
        """Return the response to one request, its body unread.  Raises `Failure`."""
        try:
            ours = location.origin(url) == self._origin
            given = [(name, text) for name, text in fields if ours or name.lower() not in FOR_ONE]
            named = {name.lower() for name, _ in given}
            headers = [
                (name.encode("ascii"), text.encode("latin-1"))
                for name, text in [*((name, text) for name, text in self._always if name.lower() not in named), *given]
            ]
            if "host" not in named:
                headers.insert(0, (b"Host", location.host_field(url)))
            if ours and self._authorization is not None:
                headers = [each for each in headers if each[0].lower() != b"authorization"]
                headers.append((b"Authorization", self._authorization))
            request = httpx2.Request(method, url.copy_with(userinfo=b"", fragment=None), headers=headers, content=body)
            self._cookies.add_to(request)
            response = self._answers.handle_request(request)
            response.request = request
            response.stream = _Stream(response.stream, lambda error: self._failure(url, error))
            self._cookies.take_from(response)
        except Exception as error:
            raise self._failure(url, error) from error
        return response

    def _failure(self, url: httpx2.URL, error: Exception) -> Failure:
        """Return the failure that an exception means.  A hostile response can raise any exception of any library, so
        all are taken for the peer's; those of files that are sent have a name."""
        if isinstance(error, Failure):
            return error
        if isinstance(error, OSError) and error.filename is not None:
            return Failure(f"{error.filename}: {tools.reason_of(error)}")
        return Failure(f"{location.shown(url)}: {self._reason(error)[:LONGEST_REASON]}")

    def _context(self, *, insecure: bool) -> ssl.SSLContext:
        try:
            return client_context(self._cafile, verify=not insecure)
        except OSError as error:
            raise Failure(str(error)) from error

    def _reason(self, error: BaseException) -> str:
        """Why there is no answer: the first cause says it best."""
        while error.args and isinstance(error.args[0], Exception):
            error = error.args[0]
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate does not verify: {tls_socket.why(error, self._cafile)}"
        if isinstance(error, TimeoutError) and not error.errno:
            patience = f"nothing has moved for {common.PATIENCE:g} s"
            return patience if self._timeout is None else f"no end in {self._timeout:g} s"
        if isinstance(error, ssl.SSLError) and is_truncation(error):
            return "cut off: the connection ended without close_notify"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
        text = tools.reason_of(error) if isinstance(error, Exception) else str(error)
        return f"cut off: {text}" if "closed connection" in text else text.rstrip(".")


class _Stream(httpx2.SyncByteStream):
    """The bytes of a body.  Whatever reading them raises is passed to `failure`, and what that returns is raised."""

    def __init__(self, stream: Any, failure: Callable[[Exception], Failure]) -> None:
        self._stream = stream
        self._failure = failure

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._stream)
        while True:
            try:
                piece = next(pieces, None)
            except Exception as error:
                raise self._failure(error) from error
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        # The connection is given up: an error now has no consequences.
        with suppress(Exception):
            self._stream.close()


def _basic(user: str) -> bytes:
    """The field Authorization, in the bytes that were typed.  Raises `Failure`."""
    return _authorization(":".join(common.credentials(user)).encode("utf-8", "surrogateescape"))


def _authorization(credentials: bytes) -> bytes:
    return b"Basic " + base64.b64encode(credentials)


def _tell(redirect: Redirect) -> None:
    unsafe = redirect.source.startswith("https:") and redirect.location.startswith("http:")
    warning = ": WARNING! From TLS to the clear" * unsafe
    tell(f"redirected, {redirect.status}: {redirect.location}{warning}")
