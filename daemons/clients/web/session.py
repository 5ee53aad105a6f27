"""Asking web servers: with redirects, cookies, a cache, and one clear reason where there is no answer."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import httpcore
import httpx

from daemons.clients import secure, tools
from daemons.clients.web import common, jar
from daemons.clients.web.common import Failure, tell
from daemons.clients.web.shown import Shown, Verbose
from daemons.clients.web.transport import Deadline, Transport
from daemons.serving.tls_context import client_context, is_truncation

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
        try:
            url = httpx.URL(options.url)
        except httpx.InvalidURL as error:
            raise Failure(f"{options.url}: {tools.reason_of(error)}") from error
        self._origin = _origin(url)
        self._auth = _basic(options.user) if options.user else None
        if url.userinfo:
            # From here on nobody shows the password by showing where something is.
            self._auth = self._auth or httpx.BasicAuth(url.username, url.password)
            options.url = shown(url)
        self._jar_file = Path(options.jar) if options.jar else None
        self._jar = jar.empty() if self._jar_file is None else jar.load(self._jar_file)
        self._transport = Transport(
            partial(self._context, insecure=options.insecure),
            self._deadline,
            Verbose() if options.verbose else Shown(),
            options.proxy,
            options.unix_socket,
        )
        transport: httpx.BaseTransport = self._transport
        if options.cache:
            from daemons.clients.web.cache import Cache

            transport = Cache(Path(options.cache), transport)
        agent = f"{PRODUCT}/{version(PRODUCT)}" + f" ({comment})" * bool(comment)
        self._client = httpx.Client(
            transport=transport,
            cookies=self._jar,
            headers={b"User-Agent": (options.agent or agent).encode("latin-1"), b"Accept-Encoding": b"gzip"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._client.close()
        finally:
            if self._jar_file is not None:
                jar.save(self._jar, self._jar_file)

    def cut(self) -> None:
        """End all that other threads have asked for, at once."""
        self._transport.cut()

    @contextmanager
    def ask(
        self,
        method: str,
        url: str,
        fields: Fields = (),
        content: Content = None,
        *,
        follow: bool = True,
        admit: Callable[[str], None] = lambda url: None,
        redirected: Callable[[Redirect], None] | None = None,
    ) -> Iterator[httpx.Response]:
        """The response to a request, whose body is still to be read, all of it within the deadline.

        Redirects are followed; `admit` is given each URL before it is asked for, and may raise; `redirected` is told of
        each, which is otherwise told on standard error.  The method and the body stay what they are under 307 and 308
        alone; otherwise the next request is a GET.  Credentials, and fields like them, are for the origin of the URL
        on the command line.
        Raises `Failure`."""
        self._deadline.begin(self._timeout, common.PATIENCE)
        where = url
        try:
            target = httpx.URL(url)
            given = [*self._fields, *fields]
            for _ in range(LONGEST_CHAIN + 1):
                where = shown(target)
                with self._deadline.paused():
                    admit(str(target.copy_with(fragment=None)))
                ours = _origin(target) == self._origin
                request = self._client.build_request(
                    method,
                    target,
                    headers=[
                        (name.encode("ascii"), text.encode("latin-1"))
                        for name, text in given
                        if ours or name.lower() not in FOR_ONE
                    ],
                    content=content,
                )
                response = self._client.send(request, auth=self._auth if ours else None, stream=True)
                try:
                    if not follow or response.status_code not in REDIRECTS or "Location" not in response.headers:
                        yield response
                        return
                finally:
                    response.close()
                target, source = _next(target, response), where
                (redirected or _tell)(Redirect(response.status_code, source, shown(target)))
                if response.status_code not in (307, 308) and method not in ("GET", "HEAD"):
                    method, content = "GET", None
                    given = [(name, text) for name, text in given if name.lower() not in OF_A_BODY]
            raise Failure(f"{shown(httpx.URL(url))}: more than {LONGEST_CHAIN} redirects, the last to {shown(target)}")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, *_OF_HTTPCORE) as error:
            raise Failure(f"{where}: {self._reason(error)}") from error

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
            return f"the certificate does not verify: {secure.why(error, self._cafile)}"
        if isinstance(error, TimeoutError) and not error.errno:
            patience = f"nothing has moved for {common.PATIENCE:g} s"
            return patience if self._timeout is None else f"no end in {self._timeout:g} s"
        if isinstance(error, ssl.SSLError) and is_truncation(error):
            return "cut off: the connection ended without close_notify"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
        text = tools.reason_of(error) if isinstance(error, Exception) else str(error)
        return f"cut off: {text}" if "closed connection" in text else text.rstrip(".")


_OF_HTTPCORE = (
    httpcore.ConnectionNotAvailable,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


def _basic(user: str) -> httpx.BasicAuth:
    """Who asks, in the octets that were typed.  Raises `Failure`."""
    name, password = (text.encode("utf-8", "surrogateescape") for text in common.credentials(user))
    return httpx.BasicAuth(name, password)


def shown(url: httpx.URL) -> str:
    """A URL for people to read, and without its password."""
    return str(url.copy_with(userinfo=b""))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _next(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    """Where a redirect leads.  Raises `Failure`."""
    location = response.headers["Location"]
    try:
        target = url.join(location)
    except httpx.InvalidURL:
        target = httpx.URL()
    if target.scheme not in ("http", "https") or not target.host:
        raise Failure(f"{shown(url)}: redirected to {location!r}, which is nothing of the web")
    return target if target.fragment or not url.fragment else target.copy_with(fragment=url.fragment)


def _tell(redirect: Redirect) -> None:
    unsafe = redirect.source.startswith("https:") and redirect.location.startswith("http:")
    warning = ": WARNING! From TLS to the clear" * unsafe
    tell(f"redirected, {redirect.status}: {redirect.location}{warning}")
