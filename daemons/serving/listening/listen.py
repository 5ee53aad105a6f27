"""Address → bound, listening sockets."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from daemons.serving.listening import inherited
from daemons.serving.listening.address import INHERITED, Address, host_of

#: The mode of a Unix socket: its user and group may connect.
UNIX_MODE = 0o660

#: Times that a port, free in one family and taken in the other, is asked for anew.
PORT_TRIES = 8


class ListenError(Exception):
    """The system refused an address.  The text names the address and the reason."""


def listen(address: Address, backlog: int, mode: int = UNIX_MODE, *, beside: bool = False) -> list[socket.socket]:
    """Bind `address` and, unless it is for datagrams, listen with room for `backlog` connections not yet
    accepted, listen(2).

    A host name may stand for several addresses (``localhost``: 127.0.0.1 and ::1), and no host at all stands
    for every address of both families; each gets a socket, all the same port, also where that is 0.
    `mode` is that of a Unix socket's file.  With `beside`, a TCP port is shared with orphaned workers of the same user
    that are about to leave it (`share`).  The sockets do not block.  Raises `ListenError`; then none is left
    open.
    """
    if address.scheme == "unix":
        return [_listen_unix(Path(address.path), backlog, mode)]
    if address.inherited:
        try:
            return inherited.take(address)
        except inherited.InheritanceError as error:
            raise ListenError(f"{address}: {error}") from error
    try:
        kind = socket.SOCK_DGRAM if address.scheme == "udp" else socket.SOCK_STREAM
        found = socket.getaddrinfo(address.host or None, address.port, type=kind, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"{address}: {getattr(error, 'strerror', None) or error}") from error
    for tries in range(PORT_TRIES, 0, -1):
        try:
            return _listen_all(list(dict.fromkeys(found)), backlog, beside)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or address.port or tries == 1:
                raise ListenError(explain(address, error)) from error
    raise AssertionError


def share(listener: socket.socket) -> bool:
    """Let another process of the same user bind the same TCP port beside this listener, socket(7) SO_REUSEPORT; the
    kernel then divides new connections among both.  Returns whether that can be."""
    if listener.type != socket.SOCK_STREAM or listener.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return True


def _listen_all(found: list[Any], backlog: int, beside: bool) -> list[socket.socket]:
    """A listener for each of what getaddrinfo found, as far as this machine has it.  Raises `OSError`."""
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in found:
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError as error:
                # The resolver knows IPv6 and the kernel does not: the other addresses will do.
                if error.errno == errno.EAFNOSUPPORT and len(found) > 1:
                    continue
                raise
            listeners.append(listener)
            prepare(listener)
            if where[1] == 0 and len(listeners) > 1:
                where = (where[0], listeners[0].getsockname()[1], *where[2:])
            try:
                try:
                    listener.bind(where)
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or not beside or not share(listener):
                        raise
                    listener.bind(where)
            except OSError as error:
                # ::1 is in /etc/hosts, but no interface has it.
                if error.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET6 and len(found) > 1:
                    listeners.pop().close()
                    continue
                raise
            if kind == socket.SOCK_STREAM:
                listener.listen(backlog)
        if not listeners:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def prepare(listener: socket.socket) -> None:
    """The options every listener has; accepted connections inherit TCP_NODELAY on Linux."""
    listener.setblocking(False)
    if listener.type == socket.SOCK_STREAM and listener.family in (socket.AF_INET, socket.AF_INET6):
        # A restart finds the port free although old connections are in TIME_WAIT.  TCP only: for UDP
        # it would let another process take the port over.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if listener.family == socket.AF_INET6:
        # So that 0.0.0.0 and :: can be bound side by side, and a peer is never ::ffff:192.0.2.1.
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _listen_unix(path: Path, backlog: int, mode: int) -> socket.socket:
    address = Address("unix", path=str(path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        prepare(listener)
        _make_folder(path.parent)
        with _locked(path.parent):
            _remove_stale(path)
            mask = os.umask(0o777 & ~mode)
            try:
                listener.bind(str(path))
            finally:
                os.umask(mask)
            listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise ListenError(explain(address, error)) from error
    return listener


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OSError(errno.ENOTDIR, f"{folder} is not a folder, nor a link to one") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time: of two that start at once, the second would take the first, which is bound and does not
    listen yet, for one that was killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a daemon that was killed: one at which nobody answers."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket is in the way")
    except FileNotFoundError:
        if path.is_symlink():
            # bind(2) calls it an address in use.
            raise OSError(errno.EEXIST, f"a link to {os.readlink(path)}, which is missing, is in the way") from None
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def explain(address: Address, error: OSError) -> str:
    """Why `address` could not be had, and what to look at next."""
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE and address.port:
        reason += f"; `ss -l{'u' if address.scheme == 'udp' else 't'}np sport = :{address.port}` shows who has it"
    elif error.errno == errno.EACCES and 0 < address.port < 1024:
        reason += "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason += "; no interface of this machine has it"
    return f"{address}: {reason}"


def clients_too(address: Address) -> str:
    """What is to be said of a port that the kernel also gives to outgoing connections; ``""`` if it does not.
    One that happens to have it when the daemon starts keeps it from starting."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii")
        least, most = (int(number) for number in text.split())
    except (OSError, ValueError):
        return ""
    if address.scheme == "unix" or address.inherited or not least <= address.port <= most:
        return ""
    return (
        f"{address}: the kernel gives ports from {least} to {most} to outgoing connections, one of which may have "
        "this when the daemon starts; a port below is safer"
    )


def name_of(listener: socket.socket, scheme: str) -> Address:
    """Where a bound socket listens; port 0 has become a real one."""
    if scheme in INHERITED:
        return inherited.name_of(listener)
    where = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return Address("unix", path=os.path.abspath(where))
    return Address(scheme, host=host_of(where), port=where[1])
