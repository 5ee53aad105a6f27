"""HTTP sessions: requests with redirects, cookies, a cache and credentials; one exception type for all failures."""

from __future__ import annotations

import argparse
import base64
import os
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
from daemons.clients.web.common import Failure, log
from daemons.clients.web.deadline import Deadline
from daemons.clients.web.trace import Trace, VerboseTrace
from daemons.clients.web.transport import Transport
from daemons.serving.tls.context import client_context, is_truncation

if TYPE_CHECKING:
    from typing import Self

#: The product token in User-Agent and in robots.txt.
PRODUCT = "camelot-daemons"

#: Maximum redirects that are followed for one request.
LONGEST_CHAIN = 10

#: Statuses that redirect automatically (RFC 9110, section 15.4); 300 and 304 do not.
REDIRECTS = frozenset((301, 302, 303, 307, 308))

#: Fields that describe a body.
BODY_FIELDS = frozenset(
    ("content-type", "content-length", "content-encoding", "transfer-encoding", "if-range", "range")
)

#: Maximum characters of a reported reason: some exceptions quote all data of the server.
LONGEST_REASON = 300

Fields = Iterable[tuple[str, str]]
Content = bytes | Iterable[bytes] | None


class Redirect(NamedTuple):
    """A redirect that was followed."""

    status: int
    source: str
    location: str


class Session:
    """The state that requests share: connections, cookies, cache and credentials, as set up by the command line.

    A context manager; thread-safe.  User and password are removed from ``options.url``.  Raises `Failure`."""

    def __init__(self, options: argparse.Namespace, comment: str = "") -> None:
        self._deadline = Deadline()
        self._timeout: float | None = options.timeout
        self._cafile = Path(options.cafile) if options.cafile else None
        self._fields: list[tuple[str, str]] = options.headers
        url = location.parse(options.url)
        self._origin = location.origin(url)
        self._authorization = _basic(options.user) if options.user else None
        if url.userinfo:
            # The URL appears in messages, which must not contain the password.
            given = url.userinfo if b":" in url.userinfo else url.userinfo + b":"
            self._authorization = self._authorization or _authorization(unquote_to_bytes(given))
            options.url = location.display(url)
        self._jar_file = cookies.JarFile(Path(options.jar)) if options.jar else None
        self._cookies = cookies.Cookies(cookies.empty() if self._jar_file is None else self._jar_file.jar)
        self._transport = Transport(
            partial(self._context, insecure=options.insecure),
            self._deadline,
            VerboseTrace() if options.verbose else Trace(),
            options.proxy,
            options.unix_socket,
        )
        self._handler: httpx2.BaseTransport = self._transport
        if options.cache:
            from daemons.clients.web.cache import Cache

            route = ["unverified"] if options.insecure else []
            # A private CA may have signed the certificate of another server for this name.
            files = {"--cafile": options.cafile, "--unix-socket": options.unix_socket}
            route += [f"{option} {os.path.abspath(name)}" for option, name in files.items() if name]
            self._handler = Cache(Path(options.cache), self._transport, "\n".join(route))
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
            self._handler.close()
        finally:
            if self._jar_file is not None:
                self._jar_file.save()

    def abort(self) -> None:
        """Abort the requests of all threads."""
        self._transport.abort()

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
        """Send a request and yield the response.  Its body must be read within the deadline.

        Redirects are followed unless `follow` is false; 307 and 308 keep the method and the body, others change them to
        GET without a body.  `admit` is called with each URL before it is requested, and may raise.  `redirected` is
        called with each redirect; by default it is logged.  Credentials and cookies given on the command line are sent
        only to the origin of its URL.  Raises `Failure`."""
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
            (redirected or _log_redirect)(
                Redirect(response.status_code, location.display(source), location.display(target))
            )
            if response.status_code not in (307, 308) and method not in ("GET", "HEAD"):
                method, body = "GET", None
                given = [(name, text) for name, text in given if name.lower() not in BODY_FIELDS]
        raise Failure(f"{url}: more than {LONGEST_CHAIN} redirects, the last to {location.display(target)}")

    def _send(self, method: str, url: httpx2.URL, fields: list[tuple[str, str]], body: Content) -> httpx2.Response:
        """Return the response to one request, its body unread.  Raises `Failure`."""
        try:
            ours = location.origin(url) == self._origin
            given = [(name, text) for name, text in fields if ours or not _is_for_one_origin(name)]
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
            response = self._handler.handle_request(request)
            response.request = request
            response.stream = _BodyStream(response.stream, lambda error: self._failure(url, error))
            self._cookies.take_from(response)
        except Exception as error:
            raise self._failure(url, error) from error
        return response

    def _failure(self, url: httpx2.URL, error: Exception) -> Failure:
        """Return the failure to raise for an exception.  A hostile response can cause any exception in any library, so
        all are attributed to the peer, except those of files, which have a file name."""
        if isinstance(error, Failure):
            return error
        if isinstance(error, OSError) and error.filename is not None:
            return Failure(f"{error.filename}: {tools.reason_of(error)}")
        return Failure(f"{location.display(url)}: {self._reason(error)[:LONGEST_REASON]}")

    def _context(self, *, insecure: bool) -> ssl.SSLContext:
        try:
            return client_context(self._cafile, verify=not insecure)
        except OSError as error:
            raise Failure(str(error)) from error

    def _reason(self, error: BaseException) -> str:
        """Return why a request failed: the message of the innermost cause."""
        while error.args and isinstance(error.args[0], Exception):
            error = error.args[0]
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate does not verify: {tls_socket.verification_error(error, self._cafile)}"
        if isinstance(error, TimeoutError) and not error.errno:
            stalled = f"timed out: no progress for {common.PATIENCE:g} s"
            return stalled if self._timeout is None else f"timed out: not complete after {self._timeout:g} s"
        if isinstance(error, ssl.SSLError) and is_truncation(error):
            return "cut off: the connection ended without close_notify"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
        text = tools.reason_of(error) if isinstance(error, Exception) else str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {text}"
        return f"cut off: {text}" if "closed connection" in text else text.rstrip(".")


def _is_for_one_origin(name: str) -> bool:
    """Return whether a field is sent only to the origin of the URL on the command line."""
    return name.lower() == "host" or common.is_secret(name)


class _BodyStream(httpx2.SyncByteStream):
    """The bytes of a body.  Exceptions while reading are converted by `failure`."""

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
        # The connection is discarded, so errors do not matter.
        with suppress(Exception):
            self._stream.close()


def _basic(user: str) -> bytes:
    """Return the value of Authorization for ``USER[:PASSWORD]``, with the bytes of the command line.  Raises
    `Failure`."""
    return _authorization(":".join(common.credentials(user)).encode("utf-8", "surrogateescape"))


def _authorization(credentials: bytes) -> bytes:
    return b"Basic " + base64.b64encode(credentials)


def _log_redirect(redirect: Redirect) -> None:
    unsafe = redirect.source.startswith("https:") and redirect.location.startswith("http:")
    warning = ": WARNING! From https to http" * unsafe
    log(f"redirected, {redirect.status}: {redirect.location}{warning}")
