"""How octets get to a web server and back: httpcore2, over sockets with a deadline for the whole."""

from __future__ import annotations

import math
import select
import socket
import ssl
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpcore2
import httpx2

from daemons.clients.net.tls_socket import without_zone
from daemons.clients.rpc.call_arguments import without_password
from daemons.clients.web.common import Failure
from daemons.clients.web.location import host_to_connect
from daemons.clients.web.trace import Shown


class Deadline(threading.local):
    """Until when what a thread is doing must be done.  The timeouts of a socket would not do: each is for one
    recv(2), and who sends an octet now and then never exceeds any.  Where `patience` is given, that is wanted: then
    it is so many seconds without an octet that are too long."""

    until = patience = math.inf
    in_head = False

    def begin(self, seconds: float | None, patience: float) -> None:
        """For all that is done, or None for the patience alone."""
        self.patience = patience if seconds is None else math.inf
        self.until = time.monotonic() + (patience if seconds is None else seconds)

    def went_on(self, *, sent: bool = False) -> None:
        """Count from now on again, after bytes were sent, or received as part of a body.  The head of a response is due
        within one `patience` in all: without that, a peer could send interim responses (1xx) for ever."""
        if self.patience != math.inf and (sent or not self.in_head):
            self.until = time.monotonic() + self.patience

    @contextmanager
    def head(self) -> Iterator[None]:
        """A request is sent and the head of its response received within."""
        self.in_head = True
        try:
            yield
        finally:
            self.in_head = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within does not count."""
        until, began = self.until, time.monotonic()
        yield
        self.until = until + time.monotonic() - began

    def left(self) -> float:
        """Seconds.  Raises `TimeoutError`."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@contextmanager
def _as(late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """What a socket raises, as httpcore2 wants to be told; the argument is the cause, which httpcore2 takes from it."""
    try:
        yield
    except TimeoutError as error:
        raise late(error) from error
    except (OSError, UnicodeError) as error:  # UnicodeError: no name in any alphabet
        raise broken(error) from error


class Stream(httpcore2.NetworkStream):
    """A connected socket."""

    def __init__(self, connected: socket.socket, backend: Backend, deadline: Deadline, shown: Shown) -> None:
        self._socket = connected
        self._backend = backend
        self._deadline = deadline
        self._shown = shown

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _as(httpcore2.ReadTimeout, httpcore2.ReadError):
            self._socket.settimeout(self._deadline.left())
            octets = self._socket.recv(max_bytes)
        self._deadline.went_on()
        return octets

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        self._shown.sent(buffer)
        unsent = memoryview(buffer)
        with _as(httpcore2.WriteTimeout, httpcore2.WriteError):
            while unsent:
                self._socket.settimeout(self._deadline.left())
                unsent = unsent[self._socket.send(unsent) :]
                self._deadline.went_on(sent=True)

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        try:
            with _as(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                self._socket.settimeout(self._deadline.left())
                # An end without close_notify is an error: the body may have been truncated.
                secured = ssl_context.wrap_socket(
                    self._socket,
                    server_hostname=server_hostname and without_zone(server_hostname),
                    suppress_ragged_eofs=False,
                )
        except BaseException:
            self.close()
            raise
        return self._backend.adopt(secured)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # of an idle connection: its peer has closed it
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return self._socket
        return None


class Backend(httpcore2.NetworkBackend):
    """Connects, each time within what is left of the deadline."""

    def __init__(self, deadline: Deadline, shown: Shown) -> None:
        self._deadline = deadline
        self._shown = shown
        self._lock = threading.Lock()
        self._sockets = weakref.WeakSet[socket.socket]()
        self._is_cut = False

    def cut(self) -> None:
        """End all connections at once, under the hands of whatever thread waits for one, also for its establishment;
        no others are made."""
        with self._lock:
            self._is_cut = True
            for connected in self._sockets:
                with suppress(OSError):
                    socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not SSLSocket's, which is not for two threads

    def adopt(self, connected: socket.socket) -> Stream:
        """A stream on what is connected."""
        self._register(connected)
        return Stream(connected, self, self._deadline, self._shown)

    def _register(self, unconnected: socket.socket) -> None:
        """Let `cut` end a socket.  Raises `OSError` if it has been called."""
        with self._lock:
            if self._is_cut:
                raise ConnectionAbortedError("cut off from here")
            self._sockets.add(unconnected)

    def _connected(self, family: int, address: Any, timeout: float) -> socket.socket:
        """Return a connected socket.  Raises `OSError`."""
        peer = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._register(peer)
            peer.settimeout(timeout)
            peer.connect(address)
        except BaseException:
            peer.close()
            raise
        return peer

    def _connected_to_any(self, host: str, port: int) -> socket.socket:
        """Return a socket connected to the first address of a host that accepts it; each has an equal share of the time
        that is left.  Raises `OSError`."""
        problem: OSError | None = None
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for number, (family, _, _, _, address) in enumerate(found):
            try:
                return self._connected(family, address, self._deadline.left() / (len(found) - number))
            except OSError as error:
                problem = error
        raise problem or OSError(f"{host} has no address")

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        with _as(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            connected = self._connected_to_any(host_to_connect(host), port)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.adopt(connected)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        with _as(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            connected = self._connected(socket.AF_UNIX, path, self._deadline.left())
        return self.adopt(connected)


class _Body(httpx2.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        self._stream.close()


class Transport(httpx2.BaseTransport):
    """Sends requests, over connections that are kept, and shows what is said.  `proxy` and `path`, a Unix socket, are
    where to connect to instead of the URL's host; without them the environment decides on a proxy.  `tls` is asked for
    when it is needed: to read all the CAs of a system takes longer than most requests.

    Raises httpcore2's exceptions."""

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        deadline: Deadline,
        shown: Shown,
        proxy: str | None = None,
        path: str | None = None,
    ) -> None:
        self._tls = tls
        self._backend = Backend(deadline, shown)
        self._deadline = deadline
        self._shown = shown
        self._proxy = proxy
        self._path = path
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str | None], httpcore2.ConnectionPool] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        with self._deadline.head():
            answer = self._pool(url).handle_request(
                httpcore2.Request(
                    request.method,
                    httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        if answer.status < 200:
            answer.close()
            raise httpcore2.RemoteProtocolError(f"{answer.status} was not asked for; a final response is expected")
        self._shown.received(answer)
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    def cut(self) -> None:
        """End all that is under way."""
        self._backend.cut()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _pool(self, url: httpx2.URL) -> httpcore2.ConnectionPool:
        proxy = self._proxy or (None if self._path else _of_environment(url))
        with self._lock:
            pool = self._pools.get((url.scheme, proxy))
            if pool is None:
                tls = self._tls() if url.scheme == "https" else None
                pool = self._pools[url.scheme, proxy] = self._connections(tls, proxy)
            return pool

    def _connections(self, tls: ssl.SSLContext | None, proxy: str | None) -> httpcore2.ConnectionPool:
        if proxy is None:
            return httpcore2.ConnectionPool(
                ssl_context=tls, network_backend=self._backend, uds=self._path, max_connections=None
            )
        try:
            # Without a scheme it is http, as curl and wget take it.
            parsed = httpx2.Proxy(proxy if "://" in proxy else f"http://{proxy}")
        except (httpx2.InvalidURL, ValueError):
            parsed = None
        if parsed is None or parsed.url.scheme != "http" or not parsed.url.host:
            raise Failure(f"{without_password(proxy)!r} is no proxy that can be used; write http://HOST:PORT")
        where = parsed.url
        return httpcore2.HTTPProxy(
            httpcore2.URL(scheme=where.raw_scheme, host=where.raw_host, port=where.port, target=b"/"),
            proxy_auth=parsed.raw_auth,
            ssl_context=tls,
            network_backend=self._backend,
            max_connections=None,
        )


def _of_environment(url: httpx2.URL) -> str | None:
    if urllib.request.proxy_bypass(url.netloc.decode("ascii")):
        return None
    return urllib.request.getproxies().get(url.scheme)
