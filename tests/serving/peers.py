"""The other end of a connection, and how a test waits.

Nothing here sleeps: whoever waits, waits for an octet, the end of a stream or of a process, and fails
where it has not come by the `DEADLINE`."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Seconds after which what has not come will not come.
DEADLINE = 20.0


def connect(address: Any) -> socket.socket:
    """A connection to the (host, port) or path."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    peer = socket.socket(family)
    peer.settimeout(DEADLINE)
    try:
        peer.connect(address)
    except BaseException:
        peer.close()
        raise
    return peer


def hear(peer: socket.socket, expected: bytes) -> None:
    """Hear exactly that much, and that it is this."""
    heard = b""
    while len(heard) < len(expected) and (data := peer.recv(len(expected) - len(heard))):
        heard += data
    assert heard == expected


def ask(peer: socket.socket, question: bytes, answer: bytes) -> None:
    """Put one question, and hear its answer."""
    peer.sendall(question)
    hear(peer, answer)


def hear_all(peer: socket.socket) -> bytes:
    """All that comes until the daemon closes its half."""
    heard = []
    while data := peer.recv(65536):
        heard.append(data)
    return b"".join(heard)


def is_gone(peer: socket.socket) -> bool:
    """Wait until the daemon has closed or reset the connection; whether it said nothing before."""
    try:
        return hear_all(peer) == b""
    except ConnectionError:
        return True


def converse(address: Any, words: bytes) -> tuple[bytes, str]:
    """Say `words`, close our half, and hear all; also our name in the log."""
    with connect(address) as peer:
        saying = threading.Thread(target=_say, args=(peer, words))
        saying.start()
        try:
            return hear_all(peer), name_of(peer)
        finally:
            saying.join()


def _say(peer: socket.socket, words: bytes) -> None:
    with suppress(OSError):  # the daemon may have heard enough
        peer.sendall(words)
        peer.shutdown(socket.SHUT_WR)


def reset(peer: socket.socket) -> None:
    """Close it with a RST: SO_LINGER with no time, socket(7)."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def name_of(peer: socket.socket) -> str:
    """What the daemon's log calls this peer."""
    host, port = peer.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def queued(address: tuple[str, int]) -> int:
    """How many connections wait, unaccepted, at a listener of 127.0.0.1: proc_net_tcp(5), rx_queue."""
    host = struct.unpack("=I", socket.inet_aton(address[0]))[0]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues = line.split()[:5]
        if state == "0A" and local == f"{host:08X}:{address[1]:04X}":
            return int(queues.partition(":")[2], 16)
    raise LookupError(address)


def eventually(condition: Callable[[], object]) -> None:
    """For what /proc tells, which nobody can wait for: look until it is so."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "it has not come to be"
        select.select([], [], [], 0.01)


def ended(pids: Iterable[int]) -> None:
    """Wait until none of these processes, whoever their parent is, runs any more: pidfd_open(2)."""
    for pid in pids:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                assert select.select([descriptor], [], [], DEADLINE)[0], f"process {pid} still runs"
            finally:
                os.close(descriptor)


def children_of(pid: int) -> list[int]:
    """The pids of its child processes, dead ones that it has not waited for among them."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found
