"""Servers that send single bytes slowly, so that no socket timeout is ever exceeded."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from daemons.clients import ask
from daemons.clients.net import total_deadline
from daemons.clients.net.dial import NetworkError
from daemons.clients.net.total_deadline import ReplyDeadline
from daemons.framings import Until
from daemons.serving.listening.address import Address
from tests.certificates import folder
from tests.clients.net.test_tls_report import report

CA = folder() / "ca.pem"
STOP = Until(b".", limit=10**6)

#: Takes a connection; returns the socket to close, and a function that sends one more byte.
Prepare = Callable[[socket.socket], tuple[socket.socket, Callable[[], object]]]


@contextmanager
def trickling(prepare: Prepare, scheme: str = "tcp") -> Iterator[Address]:
    """Yield the address of a server that sends one client a byte every 10 ms, for at most 20 s."""
    ended = threading.Event()

    def serve() -> None:
        client, _ = listener.accept()
        with suppress(OSError), client:
            connection, send = prepare(client)
            with connection:
                for _ in range(2000):
                    send()
                    if ended.wait(0.01):
                        break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address(scheme, "127.0.0.1", listener.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def plain(client: socket.socket) -> tuple[socket.socket, Callable[[], object]]:
    return client, lambda: client.sendall(b"x")


def secured(start: bytes) -> Prepare:
    """Send a TLS record of one byte each time, after the handshake and `start`."""

    def prepare(client: socket.socket) -> tuple[socket.socket, Callable[[], object]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder() / "server.pem", folder() / "server.key")
        secure = context.wrap_socket(client, server_side=True)
        secure.sendall(start)
        return secure, lambda: secure.sendall(b"x")

    return prepare


def in_one_record(client: socket.socket) -> tuple[socket.socket, Callable[[], object]]:
    """Send a handshake record byte by byte."""
    record = iter(struct.pack("!BHH", 22, 0x0303, 16000) + bytes([2, 0, 62, 124]) + bytes(15996))
    return client, lambda: client.sendall(bytes([next(record)]))


def test_framed_reply_times_out() -> None:
    with trickling(plain) as address, pytest.raises(NetworkError, match="timed out"):
        list(ask.converse(address, [b"?"], STOP, 0.3))


def test_reply_until_close_times_out() -> None:
    with trickling(plain) as address, pytest.raises(NetworkError, match="timed out"):
        list(ask.send_all(address, [b"?"], 0.3))


@pytest.mark.parametrize("prepare", [secured(b""), in_one_record], ids=["records", "handshake"])
def test_tls_handshake_and_reply_time_out(prepare: Prepare) -> None:
    with trickling(prepare, "tls") as address, pytest.raises(NetworkError, match="timed out"):
        list(ask.send_all(address, [b"?"], 1.0, CA))


@pytest.mark.parametrize("start", [b"", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["head", "body"])
def test_document_times_out(start: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with trickling(secured(start), "tls") as address:
        assert report("127.0.0.1", address.port, "--cafile", CA, "--document", "-t", "1") == 1
    assert capsys.readouterr().err.endswith(f": {address}: timed out\n")


def test_deadline_is_extended_by_received_bytes_and_pauses_of_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(total_deadline, "monotonic", lambda: now)
    reply, unlimited = ReplyDeadline(2.0), ReplyDeadline(None)
    now += 2.5
    with pytest.raises(TimeoutError, match="timed out"):
        reply.check(total_deadline.SLOWEST // 4)
    reply.check(total_deadline.SLOWEST)
    reply.extend(1.0)
    reply.check(0)
    now += 10.0**6
    unlimited.check(0)
