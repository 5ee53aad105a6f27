"""``daemons ask`` over TLS: verification of certificates, truncation and errors."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from daemons.clients.ask import converse, send_all
from daemons.clients.net.dial import NetworkError, dial
from daemons.framings import Until
from daemons.serving.listening.address import Address
from tests.certificates import folder
from tests.clients.foreign import Foreign
from tests.operating.live import GRAIL, daemons
from tests.serving.tls_live import serve

CA = folder() / "ca.pem"
STOP = Until(b".", limit=100)


@contextmanager
def server(certificate: str, replies: bytes = b"", close_notify: bool = True) -> Iterator[Address]:
    """Yield the address of a TLS server for one client, which sends `replies` after it has received data."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key = folder() / "server.key" if certificate == "server.pem" else None
    context.load_cert_chain(folder() / certificate, key)

    def answer() -> None:
        try:
            peer, _ = listener.accept()
            with context.wrap_socket(peer, server_side=True) as secure:
                secure.recv(1000)
                secure.sendall(replies)
                if close_notify:
                    secure.unwrap()
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        serving = threading.Thread(target=answer)
        serving.start()
        try:
            yield Address("tls", "127.0.0.1", listener.getsockname()[1])
        finally:
            serving.join()


@pytest.mark.parametrize(
    ("certificate", "name", "cafile", "expected"),
    [
        ("expired.pem", "localhost", CA, "the certificate does not verify: it has expired"),
        ("selfsigned.pem", "localhost", CA, "the certificate does not verify: it is self-signed"),
        ("server.pem", "localhost", folder() / "other" / "ca.pem", "the certificate does not verify: no CA in"),
        ("server.pem", "localhost", None, "the certificate does not verify: no CA known to this system"),
        ("selfsigned.pem", "127.0.0.1", folder() / "selfsigned.pem", "wrong name: IP address mismatch"),
    ],
)
def test_untrusted_certificate_is_refused_with_the_reason(
    certificate: str, name: str, cafile: Path | None, expected: str
) -> None:
    with server(certificate) as address, pytest.raises(NetworkError) as raised:
        dial(address.at(host=name), 10.0, cafile)
    assert expected in str(raised.value)
    assert str(raised.value).startswith(f"tls://{name}:")


def test_invalid_cafile_is_reported() -> None:
    for name, expected in (("nowhere.pem", "no such file"), ("ca.key", "there is no certificate in it")):
        with server("server.pem") as address, pytest.raises(NetworkError, match=rf"{folder()}/{name}: {expected}"):
            dial(address, 10.0, folder() / name)


def test_server_without_tls_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("tls", "127.0.0.1", listener.getsockname()[1])

        def greet() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"220 camelot.example ESMTP\r\n")
                peer.recv(1000)

        serving = threading.Thread(target=greet)
        serving.start()
        with pytest.raises(NetworkError, match=r"the handshake failed: wrong version number"):
            dial(address, 10.0, CA)
        serving.join()


def test_reply_without_close_notify_is_an_error() -> None:
    with (
        server("server.pem", b"half of ", close_notify=False) as address,
        pytest.raises(NetworkError, match=r"without close_notify|reset"),
    ):
        list(send_all(address, [b"x"], 10.0, CA))
    with server("server.pem", b"whole") as address:
        assert b"".join(send_all(address, [b"x"], 10.0, CA)) == b"whole"


@pytest.mark.parametrize("pieces", [[], [b"hello"]], ids=["no input", "input"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_greeting_that_arrives_with_the_handshake_is_received(version: ssl.TLSVersion, pieces: list[bytes]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder() / "server.pem", folder() / "server.key")
    context.minimum_version = context.maximum_version = version
    received = b""

    def greet(client: socket.socket) -> None:
        nonlocal received
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context.wrap_bio(incoming, outgoing, server_side=True)

        def wait_for(step: Callable[[], bytes | None]) -> bytes | None:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
                    data = client.recv(16_384)
                    incoming.write(data) if data else incoming.write_eof()

        wait_for(secure.do_handshake)
        secure.write(b"220 ready\n")
        client.sendall(outgoing.read())  # the end of the handshake and the greeting in one segment
        with suppress(ssl.SSLZeroReturnError):
            while data := wait_for(lambda: secure.read(1000)):
                received += data
        secure.write(b"221 bye\n")
        with suppress(ssl.SSLWantReadError):
            secure.unwrap()
        client.sendall(outgoing.read())

    with Foreign(greet) as foreign:
        address = Address("tls", "127.0.0.1", int(foreign.port))
        assert b"".join(send_all(address, pieces, 20.0, CA)) == b"220 ready\n221 bye\n"
    assert received == b"".join(pieces)


def test_replies_of_any_size_are_received_whole() -> None:
    with server("server.pem", b"x" * 99 + b"." + b"y" * 99 + b".") as address:
        answers = converse(address, [b"one", b"two"], STOP, 10.0, CA)
        assert [next(answers), next(answers)] == [b"x" * 99 + b".", b"y" * 99 + b"."]
        assert isinstance(answers, Generator)
        answers.close()


@pytest.mark.parametrize("spoken", ["service = launcelot", "service = tests.serving.services:Echo"])
def test_command_finds_the_ca_of_the_project(tmp_path: Path, spoken: str) -> None:
    with serve(tmp_path, spoken) as daemon:
        words = ("-", "What is your quest?" if "launcelot" in spoken else "a line\n", "-p", str(daemon.port))
        received = GRAIL.decode() + "\n" if "launcelot" in spoken else "a line\n"
        result = daemons(tmp_path, "ask", "x", *words, "--cafile", str(CA))
        assert (result.stdout, result.stderr, result.returncode) == (received, "", 0)
        # Without --cafile, the CA is unknown.
        result = daemons(tmp_path, "ask", "x", *words)
        assert (result.stdout, result.returncode) == ("", 1)
        assert result.stderr.startswith(
            f"x: tls://127.0.0.1:{daemon.port}: the certificate does not verify: no CA known"
        )
        # The path at which `daemons cert` writes the CA.
        (tmp_path / "run" / "tls").mkdir(parents=True)
        shutil.copy(CA, tmp_path / "run" / "tls" / "ca.pem")
        assert daemons(tmp_path, "ask", "x", *words).stdout == received


def test_question_larger_than_a_tls_record_is_sent(tmp_path: Path) -> None:
    with serve(tmp_path, "service = tests.serving.services:Patient") as daemon:
        address = Address("tls", "localhost", daemon.port)
        messages = [b"x" * 100_000 + b"\n"]
        assert list(converse(address, messages, Until(b"\n", limit=100), 10.0, CA)) == [b"100001\n"]
