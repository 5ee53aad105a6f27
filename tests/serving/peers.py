"""Test peers of a connection, and waiting with a deadline.

Nothing here sleeps: each function waits for an event (data, the end of a stream or of a process) and fails after
`DEADLINE` seconds."""

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

#: Seconds after which a wait fails.
DEADLINE = 20.0


def connect(address: Any) -> socket.socket:
    """Return a socket connected to the (host, port) or path."""
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
    """Receive as many bytes as `expected` has, and compare them."""
    heard = b""
    while len(heard) < len(expected) and (data := peer.recv(len(expected) - len(heard))):
        heard += data
    assert heard == expected


def ask(peer: socket.socket, question: bytes, answer: bytes) -> None:
    """Send a request, and expect its reply."""
    peer.sendall(question)
    hear(peer, answer)


def hear_all(peer: socket.socket) -> bytes:
    """Receive until the end of the stream."""
    heard = []
    while data := peer.recv(65536):
        heard.append(data)
    return b"".join(heard)


def is_gone(peer: socket.socket) -> bool:
    """Wait until the daemon has closed or reset the connection; return whether it sent nothing before."""
    try:
        return hear_all(peer) == b""
    except ConnectionError:
        return True


def converse(address: Any, words: bytes) -> tuple[bytes, str]:
    """Send `words`, shut the sending side down, and return all received data and the peer's name in the log."""
    with connect(address) as peer:
        saying = threading.Thread(target=_say, args=(peer, words))
        saying.start()
        try:
            return hear_all(peer), name_of(peer)
        finally:
            saying.join()


def _say(peer: socket.socket, words: bytes) -> None:
    with suppress(OSError):  # the daemon may close the connection first
        peer.sendall(words)
        peer.shutdown(socket.SHUT_WR)


def reset(peer: socket.socket) -> None:
    """Close the connection with a RST: SO_LINGER with timeout 0, socket(7)."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def name_of(peer: socket.socket) -> str:
    """Return the peer's name in the daemon's log."""
    host, port = peer.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def queued(address: tuple[str, int]) -> int:
    """Return the length of the accept queue of a listener on 127.0.0.1: proc_net_tcp(5), rx_queue."""
    host = struct.unpack("=I", socket.inet_aton(address[0]))[0]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues = line.split()[:5]
        if state == "0A" and local == f"{host:08X}:{address[1]:04X}":
            return int(queues.partition(":")[2], 16)
    raise LookupError(address)


def eventually(condition: Callable[[], object]) -> None:
    """Poll until `condition` is true, for conditions without an event to wait for."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "the condition has not become true"
        select.select([], [], [], 0.01)


def ended(pids: Iterable[int]) -> None:
    """Wait until all of these processes, not necessarily children, have ended: pidfd_open(2)."""
    for pid in pids:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                assert select.select([descriptor], [], [], DEADLINE)[0], f"process {pid} still runs"
            finally:
                os.close(descriptor)


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children, including zombies."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found
