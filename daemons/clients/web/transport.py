"""HTTP transport: httpcore2 over sockets with a deadline for the whole exchange."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import urllib.request
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpcore2
import httpx2

from daemons.clients.net.system import refuse_itself
from daemons.clients.net.tls_socket import without_zone
from daemons.clients.rpc.call_arguments import without_password
from daemons.clients.web.common import Failure
from daemons.clients.web.deadline import Deadline
from daemons.clients.web.location import display, host_to_connect
from daemons.clients.web.trace import Trace


@contextmanager
def _translated(late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """Convert a socket's exceptions to those of httpcore2.  The argument is the original exception, since httpcore2
    does not preserve the cause."""
    try:
        yield
    except TimeoutError as error:
        raise late(error) from error
    except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
        raise broken(error) from error


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Raise each `OSError` of the block with a file name, except a timeout, which is that of the whole request."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), name) from error


class SocketStream(httpcore2.NetworkStream):
    """A connected socket, as httpcore2 uses it."""

    def __init__(self, connected: socket.socket, backend: Backend, deadline: Deadline, trace: Trace) -> None:
        self._socket = connected
        self._backend = backend
        self._deadline = deadline
        self._trace = trace

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _translated(httpcore2.ReadTimeout, httpcore2.ReadError):
            self._socket.settimeout(self._deadline.left())
            data = self._socket.recv(max_bytes)
        self._deadline.note_activity()
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        self._trace.sent(buffer)
        unsent = memoryview(buffer)
        with _translated(httpcore2.WriteTimeout, httpcore2.WriteError):
            while unsent:
                self._socket.settimeout(self._deadline.left())
                unsent = unsent[self._socket.send(unsent) :]
                self._deadline.note_activity(sent=True)

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        try:
            with _translated(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                self._socket.settimeout(self._deadline.left())
                # The end of the connection without close_notify is an error: the body may be truncated.
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
        if info == "is_readable":  # an idle connection is readable if the peer has closed it
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return self._socket
        return None


class Backend(httpcore2.NetworkBackend):
    """Opens connections within the deadline."""

    def __init__(self, deadline: Deadline, trace: Trace) -> None:
        self._deadline = deadline
        self._trace = trace
        self._lock = threading.Lock()
        self._sockets = weakref.WeakSet[socket.socket]()
        self._is_aborted = False

    def abort(self) -> None:
        """Shut down all connections, including those that other threads are waiting for or opening, and refuse new
        ones."""
        with self._lock:
            self._is_aborted = True
            for connected in self._sockets:
                with suppress(OSError):
                    socket.socket.shutdown(connected, socket.SHUT_RDWR)  # SSLSocket.shutdown() is not thread-safe

    def adopt(self, connected: socket.socket) -> SocketStream:
        """Return a stream for a connected socket.  Raises `OSError` after `abort`."""
        self._register(connected)
        return SocketStream(connected, self, self._deadline, self._trace)

    def _register(self, unconnected: socket.socket) -> None:
        """Let `abort` shut down a socket.  Raises `OSError` if `abort` has been called."""
        with self._lock:
            if self._is_aborted:
                raise ConnectionAbortedError("aborted")
            self._sockets.add(unconnected)

    def _connected(self, family: int, address: Any, timeout: float) -> socket.socket:
        """Return a connected socket.  Raises `OSError`."""
        peer = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._register(peer)
            peer.settimeout(timeout)
            peer.connect(address)
            if family != socket.AF_UNIX:
                refuse_itself(peer)
        except BaseException:
            peer.close()
            raise
        return peer

    def _connected_to_any(self, host: str, port: int) -> socket.socket:
        """Return a socket connected to the first address of a host that accepts; the time left is shared equally among
        the addresses.  Raises `OSError`."""
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
        with _translated(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            connected = self._connected_to_any(host_to_connect(host), port)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.adopt(connected)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        with _translated(httpcore2.ConnectTimeout, httpcore2.ConnectError), _named(path):
            connected = self._connected(socket.AF_UNIX, path, self._deadline.left())
        return self.adopt(connected)


class _ProxyBackend(httpcore2.NetworkBackend):
    """Opens connections to a proxy, and names it in errors: they are not those of the URL's host."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self._name = name

    def connect_tcp(self, host: str, port: int, *arguments: Any, **keywords: Any) -> httpcore2.NetworkStream:
        try:
            return self._backend.connect_tcp(host, port, *arguments, **keywords)
        except httpcore2.ConnectError as error:
            with _translated(httpcore2.ConnectTimeout, httpcore2.ConnectError), _named(self._name):
                raise error.args[0] from error


class _Body(httpx2.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        self._stream.close()


class Transport(httpx2.BaseTransport):
    """Sends requests over pooled connections and traces them.

    With `proxy`, or `path`, the path of a Unix socket, connections are made there and not to the URL's host; otherwise
    the environment may name a proxy.  `tls` is called only when needed, since loading the CAs of a system takes longer
    than most requests.  Raises httpcore2's exceptions."""

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        deadline: Deadline,
        trace: Trace,
        proxy: str | None = None,
        path: str | None = None,
    ) -> None:
        self._tls = tls
        self._backend = Backend(deadline, trace)
        self._deadline = deadline
        self._trace = trace
        self._proxy = proxy
        self._path = path
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str | None], httpcore2.ConnectionPool] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        with self._deadline.head():
            response = self._pool(url).handle_request(
                httpcore2.Request(
                    request.method,
                    httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        if response.status < 200:
            response.close()
            raise httpcore2.RemoteProtocolError(f"unexpected status {response.status}; expected a final response")
        self._trace.received(response)
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Body(response.stream), extensions=response.extensions
        )

    def abort(self) -> None:
        """Abort all requests."""
        self._backend.abort()

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
            # Without a scheme it is http, as in curl and wget.
            parsed = httpx2.Proxy(proxy if "://" in proxy else f"http://{proxy}")
        except (httpx2.InvalidURL, ValueError):
            parsed = None
        if parsed is None or parsed.url.scheme != "http" or not parsed.url.host:
            raise Failure(f"{without_password(proxy)!r} is not a supported proxy; expected http://HOST:PORT")
        where = parsed.url
        return httpcore2.HTTPProxy(
            httpcore2.URL(scheme=where.raw_scheme, host=where.raw_host, port=where.port, target=b"/"),
            proxy_auth=parsed.raw_auth,
            ssl_context=tls,
            network_backend=_ProxyBackend(self._backend, f"proxy {display(where)}"),
            max_connections=None,
        )


def _of_environment(url: httpx2.URL) -> str | None:
    if urllib.request.proxy_bypass(url.netloc.decode("ascii")):
        return None
    return urllib.request.getproxies().get(url.scheme)
