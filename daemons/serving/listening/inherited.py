"""Sockets that somebody else has bound: supervisord's ``[fcgi-program]`` and inetd hand over descriptor 0,
systemd descriptors 3 and up.

What they have in common: the socket is theirs.  They keep it while the daemon is restarted, which is why
nobody is refused meanwhile, and they decide where it is and who can reach it; no setting here changes that.
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
    """What was handed over cannot be served.  The text says what is wrong with it."""


def take(address: Address) -> list[socket.socket]:
    """The listening sockets that ``fd://N``, ``systemd:`` or ``systemd:NAME`` stands for; each can be taken
    once.  Raises `InheritanceError`; then none is left open."""
    descriptors = [int(address.path)] if address.scheme == "fd" else _passed(address.path)
    listeners: list[socket.socket] = []
    try:
        for descriptor in descriptors:
            listeners.append(_listener(descriptor))  # noqa: PERF401 - those already taken are to be closed
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def take_socket(descriptor: int) -> socket.socket:
    """The socket that `descriptor` is: for streams, connected or listening, or for datagrams.  Raises
    `InheritanceError`."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise InheritanceError(f"descriptor {descriptor} is not a socket; was this started by hand?")
        # Away from 0, 1 and 2, which are to be what others expect there, and not for children.
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST)
    except OSError as error:
        raise InheritanceError(f"descriptor {descriptor}: {(error.strerror or str(error)).lower()}") from error
    taken = socket.socket(fileno=moved)
    try:
        if taken.family not in _FAMILIES:
            raise InheritanceError(f"descriptor {descriptor} is a socket of the family {taken.family!r}")
        if taken.type != socket.SOCK_STREAM and (taken.type != socket.SOCK_DGRAM or taken.family == socket.AF_UNIX):
            raise InheritanceError(
                f"descriptor {descriptor} is {_kind(taken)}; one for TCP, UDP or Unix streams is expected"
            )
    except BaseException:
        taken.close()
        raise
    _let_go(descriptor)
    return taken


def listens(taken: socket.socket) -> bool:
    """Whether it accepts connections, instead of being one."""
    return bool(taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def name_of(listener: socket.socket) -> Address:
    """Where an inherited socket listens, whoever has bound it."""
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
            what = "is a connection; it is served with --inetd nowait"
        except OSError:
            what = "does not listen"
        listener.close()
        raise InheritanceError(f"descriptor {descriptor} {what}")
    # O_NONBLOCK belongs to the open file, so this sets it for everybody who has inherited it.  There is no
    # other way: two processes that wait for one queue are both woken by one connection, and the one that
    # finds the queue empty again must not be stuck in accept(2), deaf to its signals.  Those who share a
    # listener in earnest are copies of this daemon, who want the same; those who handed it over never accept.
    listener.setblocking(False)
    if listener.type == socket.SOCK_STREAM and listener.family != socket.AF_UNIX:
        # The connections inherit it.  IPV6_V6ONLY and SO_REUSEADDR were settled at the bind.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _passed(name: str) -> list[int]:
    """The descriptors that systemd passed, or those of them it calls `name`, sd_listen_fds(3)."""
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


def _let_go(descriptor: int) -> None:
    """Leave nothing of the socket behind where it was: a descriptor that is still open keeps it listening."""
    if descriptor < FIRST:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        os.close(null)
    else:
        os.close(descriptor)


def _kind(taken: socket.socket) -> str:
    return "a Unix datagram socket" if taken.type == socket.SOCK_DGRAM else f"of the type {taken.type!r}"
