"""Sockets bound by another process: supervisord's ``[fcgi-program]`` and inetd pass descriptor 0, systemd descriptors
from 3 on.

The other process owns the socket.  It keeps the socket open while the daemon is restarted, so that no connection is
refused meanwhile, and it determines the address and the permissions; the daemon's settings do not change them.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat

from daemons.serving.listening.address import Address, host_of

#: sd_listen_fds(3): "SD_LISTEN_FDS_START […] the first file descriptor" passed.
FIRST = 3

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class InheritanceError(Exception):
    """An inherited descriptor is not usable; the text gives the reason."""


def take(address: Address) -> list[socket.socket]:
    """Return the listening sockets of ``fd://N``, ``systemd:`` or ``systemd:NAME``; each can be taken once.

    Raise `InheritanceError`; then none is left open."""
    descriptors = [int(address.path)] if address.scheme == "fd" else _passed(address.path)
    listeners: list[socket.socket] = []
    try:
        for descriptor in descriptors:
            listeners.append(_listener(descriptor))  # noqa: PERF401 - those taken before an error are closed
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def take_socket(descriptor: int) -> socket.socket:
    """Return a descriptor as a socket: a stream socket, connected or listening, or a datagram socket.

    The descriptor is moved, and the old one closed.  Raise `InheritanceError`."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise InheritanceError(
                f"descriptor {descriptor} is not a socket; supervisord, systemd or inetd must pass one"
            )
        # Away from 0, 1 and 2, the standard streams; and not inherited by children.
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST)
    except OSError as error:
        raise InheritanceError(f"descriptor {descriptor}: {(error.strerror or str(error)).lower()}") from error
    taken = socket.socket(fileno=moved)
    try:
        if taken.family not in _FAMILIES:
            raise InheritanceError(f"descriptor {descriptor} is a socket of the family {taken.family!r}")
        if taken.type != socket.SOCK_STREAM and (taken.type != socket.SOCK_DGRAM or taken.family == socket.AF_UNIX):
            raise InheritanceError(
                f"descriptor {descriptor} is {_kind(taken)}; a TCP, UDP or Unix stream socket is expected"
            )
    except BaseException:
        taken.close()
        raise
    _release(descriptor)
    return taken


def listens(taken: socket.socket) -> bool:
    """Return whether a stream socket is listening, not connected."""
    return bool(taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def name_of(listener: socket.socket) -> Address:
    """Return the address on which an inherited socket listens."""
    where = listener.getsockname()
    if isinstance(where, tuple):
        return Address("udp" if listener.type == socket.SOCK_DGRAM else "tcp", host=host_of(where), port=where[1])
    if isinstance(where, bytes):  # unix(7): in the abstract namespace, which `ss` and systemd write as @name
        return Address("unix", path="@" + where[1:].decode("utf-8", "backslashreplace"))
    return Address("unix", path=where)


def _listener(descriptor: int) -> socket.socket:
    listener = take_socket(descriptor)
    if listener.type == socket.SOCK_STREAM and not listens(listener):
        try:
            listener.getpeername()
            what = "is a connected socket; a listening one is expected, or run with --inetd nowait"
        except OSError:
            what = "does not listen"
        listener.close()
        raise InheritanceError(f"descriptor {descriptor} {what}")
    # One connection wakes all processes that poll the queue, and those that find it empty must not block in accept(2).
    # O_NONBLOCK belongs to the open file description, so it is set for all processes that share the socket.  That does
    # no harm: they are processes of this daemon, or the owner, which does not accept.
    listener.setblocking(False)
    if listener.type == socket.SOCK_STREAM and listener.family != socket.AF_UNIX:
        # Inherited by the connections.  IPV6_V6ONLY and SO_REUSEADDR take effect only at the bind.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _passed(name: str) -> list[int]:
    """Return the descriptors passed by systemd, or only those named `name`, sd_listen_fds(3)."""
    try:
        count, pid = int(os.environ.get("LISTEN_FDS", "")), int(os.environ.get("LISTEN_PID", ""))
    except ValueError:
        raise InheritanceError(
            "nothing was passed: LISTEN_FDS and LISTEN_PID are not set, see sd_listen_fds(3)"
        ) from None
    if pid != os.getpid():
        raise InheritanceError(f"LISTEN_PID is {pid}: the sockets were passed to that process, not to this one")
    descriptors = list(range(FIRST, FIRST + count))
    if not descriptors:
        raise InheritanceError("LISTEN_FDS is 0: nothing was passed")
    if name:
        names = os.environ.get("LISTEN_FDNAMES", "").split(":")
        descriptors = [descriptor for descriptor, each in zip(descriptors, names, strict=False) if each == name]
        if not descriptors:
            raise InheritanceError(f"LISTEN_FDNAMES has no {name}")
    return descriptors


def _release(descriptor: int) -> None:
    """Close the original descriptor, which would keep the socket listening; replace a standard stream by /dev/null."""
    if descriptor < FIRST:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        os.close(null)
    else:
        os.close(descriptor)


def _kind(taken: socket.socket) -> str:
    return "a Unix datagram socket" if taken.type == socket.SOCK_DGRAM else f"of the type {taken.type!r}"
