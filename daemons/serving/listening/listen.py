"""Bound, listening sockets for an address."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemons.serving.listening import inherited
from daemons.serving.listening.address import INHERITED, Address, host_of
from daemons.serving.safe_logger import SafeLogger

log = SafeLogger(__name__)

#: Default mode of a Unix socket's file: its user and group may connect.
UNIX_MODE = 0o660

#: Maximum seconds to wait for the lock of a directory.  A daemon holds it for a moment, but any user that can read the
#: directory could hold it forever.
LOCK_TIMEOUT = 2.0

#: Seconds between two attempts to lock it.
LOCK_INTERVAL = 0.01

#: Attempts to find a port that is free in both address families.
PORT_TRIES = 8


class ListenError(Exception):
    """An address cannot be bound; the text gives the address and the reason."""


def listen(
    address: Address, backlog: int, mode: int = UNIX_MODE, *, beside_orphans: bool = False
) -> list[socket.socket]:
    """Bind `address`, listen on it unless it is UDP, and return the non-blocking sockets.

    A host name may mean several addresses (``localhost``: 127.0.0.1 and ::1), and an empty host all addresses of both
    families.  Each gets a socket, all with the same port, even if `address` has port 0.

    `backlog` is the length of the queue, listen(2).  `mode` is the mode of a Unix socket's file.  With
    `beside_orphans`, a TCP port may be shared with workers of the same user that have lost their parent and are about
    to end (`share`).

    Raise `ListenError`; then no socket is left open.
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
            return _listen_all(list(dict.fromkeys(found)), backlog, beside_orphans)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or address.port or tries == 1:
                raise ListenError(explain(address, error)) from error
    raise AssertionError


def share(listener: socket.socket) -> bool:
    """Let another process of the same user bind the TCP port of this listener too, socket(7) SO_REUSEPORT.

    The kernel then distributes new connections over both listeners.  Return False if the socket is not TCP."""
    if listener.type != socket.SOCK_STREAM or listener.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return True


def _listen_all(found: list[Any], backlog: int, beside_orphans: bool) -> list[socket.socket]:
    """Return a listener for each result of getaddrinfo that is an address of this host.  Raise `OSError`."""
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in found:
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError as error:
                # The resolver returns IPv6 addresses, but the kernel has no IPv6: use the others.
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
                    if error.errno != errno.EADDRINUSE or not beside_orphans or not share(listener):
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
    """Set the options of a listener.  On Linux accepted connections inherit TCP_NODELAY."""
    listener.setblocking(False)
    if listener.type == socket.SOCK_STREAM and listener.family in (socket.AF_INET, socket.AF_INET6):
        # Allow a restart while old connections are in TIME_WAIT.  TCP only: for UDP it would let another process take
        # over the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if listener.family == socket.AF_INET6:
        # So that 0.0.0.0 and :: can be bound at the same time, and no peer is ::ffff:192.0.2.1.
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
        raise OSError(errno.ENOTDIR, f"{folder} is not a directory") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a directory while a socket in it is bound but not listening yet: another daemon would remove it as stale.

    Continue without the lock if it is not to be had within `LOCK_TIMEOUT`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + LOCK_TIMEOUT
        while not _lock(descriptor):
            if time.monotonic() > until:
                log.warning("listen: %s: locked by another process for %g s; continuing without", folder, LOCK_TIMEOUT)
                break
            time.sleep(LOCK_INTERVAL)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Return whether a directory is locked now, or its file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a killed daemon, which refuses connections."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket is in the way")
    except FileNotFoundError:
        if path.is_symlink():
            # bind(2) would report "address already in use".
            raise OSError(errno.EEXIST, f"a link to {os.readlink(path)}, which is missing, is in the way") from None
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except (BlockingIOError, TimeoutError):  # its queue is full
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def explain(address: Address, error: OSError) -> str:
    """Return why `address` cannot be bound, and a hint."""
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE and address.port:
        reason += f"; `ss -l{'u' if address.scheme == 'udp' else 't'}np sport = :{address.port}` shows the process"
    elif error.errno == errno.EACCES and 0 < address.port < 1024:
        reason += "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason += "; no interface of this machine has it"
    return f"{address}: {reason}"


def ephemeral_port_warning(address: Address) -> str:
    """Return a warning if the port is an ephemeral port, else ``""``.

    The kernel may have given an ephemeral port to an outgoing connection when the daemon starts."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii")
        least, most = (int(number) for number in text.split())
    except (OSError, ValueError):
        return ""
    if address.scheme == "unix" or address.inherited or not least <= address.port <= most:
        return ""
    return (
        f"{address}: the kernel uses ports {least} to {most} for outgoing connections, one of which may occupy this "
        f"port when the daemon starts; use a port below {least}"
    )


def name_of(listener: socket.socket, scheme: str) -> Address:
    """Return the address of a bound socket, with its actual port."""
    if scheme in INHERITED:
        return inherited.name_of(listener)
    where = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return Address("unix", path=os.path.abspath(where))
    return Address(scheme, host=host_of(where), port=where[1])
