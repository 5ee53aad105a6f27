"""``daemons ask`` over TLS: it talks to nobody it cannot be sure of, and says why."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemons.clients.ask import converse, tell
from daemons.clients.net.dial import NetworkError, dial
from daemons.framings import Until
from daemons.serving.listening.address import Address
from tests.certificates import folder
from tests.operating.live import GRAIL, daemons
from tests.serving.tls_live import serve

CA = folder() / "ca.pem"
STOP = Until(b".", limit=100)


@contextmanager
def server(certificate: str, replies: bytes = b"", goodbye: bool = True) -> Iterator[Address]:
    """One that shows this certificate, to one client, and says `replies` when it has heard something."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key = folder() / "server.key" if certificate == "server.pem" else None
    context.load_cert_chain(folder() / certificate, key)

    def answer() -> None:
        try:
            peer, _ = listener.accept()
            with context.wrap_socket(peer, server_side=True) as secure:
                secure.recv(1000)
                secure.sendall(replies)
                if goodbye:
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
    ("certificate", "name", "cafile", "said"),
    [
        ("expired.pem", "localhost", CA, "the certificate does not verify: it has expired"),
        ("selfsigned.pem", "localhost", CA, "the certificate does not verify: it is self-signed"),
        ("server.pem", "localhost", folder() / "other" / "ca.pem", "the certificate does not verify: no CA in"),
        ("server.pem", "localhost", None, "the certificate does not verify: no CA known to this system"),
        ("selfsigned.pem", "127.0.0.1", folder() / "selfsigned.pem", "wrong name: IP address mismatch"),
    ],
)
def test_whom_it_does_not_trust(certificate: str, name: str, cafile: Path | None, said: str) -> None:
    with server(certificate) as address, pytest.raises(NetworkError) as raised:
        dial(address.at(host=name), 10.0, cafile)
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"tls://{name}:")


def test_a_file_that_is_no_ca() -> None:
    for name, said in (("nowhere.pem", "no such file"), ("ca.key", "there is no certificate in it")):
        with server("server.pem") as address, pytest.raises(NetworkError, match=rf"{folder()}/{name}: {said}"):
            dial(address, 10.0, folder() / name)


def test_who_does_not_speak_tls() -> None:
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


def test_a_reply_that_somebody_cut_is_not_taken_for_a_whole_one() -> None:
    with (
        server("server.pem", b"half of ", goodbye=False) as address,
        pytest.raises(NetworkError, match=r"in the middle|reset"),
    ):
        list(tell(address, [b"x"], 10.0, CA))
    with server("server.pem", b"whole") as address:
        assert b"".join(tell(address, [b"x"], 10.0, CA)) == b"whole"


def test_replies_of_any_size() -> None:
    with server("server.pem", b"x" * 99 + b"." + b"y" * 99 + b".") as address:
        answers = converse(address, [b"one", b"two"], STOP, 10.0, CA)
        assert [next(answers), next(answers)] == [b"x" * 99 + b".", b"y" * 99 + b"."]
        assert isinstance(answers, Generator)
        answers.close()


@pytest.mark.parametrize("spoken", ["service = launcelot", "service = tests.serving.services:Echo"])
def test_the_command(tmp_path: Path, spoken: str) -> None:
    with serve(tmp_path, spoken) as daemon:
        words = ("-", "What is your quest?" if "launcelot" in spoken else "a line\n", "-p", str(daemon.port))
        heard = GRAIL.decode() + "\n" if "launcelot" in spoken else "a line\n"
        asked = daemons(tmp_path, "ask", "x", *words, "--cafile", str(CA))
        assert (asked.stdout, asked.stderr, asked.returncode) == (heard, "", 0)
        # Nobody has told it which CA to trust.
        asked = daemons(tmp_path, "ask", "x", *words)
        assert (asked.stdout, asked.returncode) == ("", 1)
        assert asked.stderr.startswith(
            f"x: tls://127.0.0.1:{daemon.port}: the certificate does not verify: no CA known"
        )
        # `daemons cert` would have put it here.
        (tmp_path / "run" / "tls").mkdir(parents=True)
        shutil.copy(CA, tmp_path / "run" / "tls" / "ca.pem")
        assert daemons(tmp_path, "ask", "x", *words).stdout == heard


def test_a_question_too_large_for_one_record(tmp_path: Path) -> None:
    with serve(tmp_path, "service = tests.serving.services:Patient") as daemon:
        address = Address("tls", "localhost", daemon.port)
        said = [b"x" * 100_000 + b"\n"]
        assert list(converse(address, said, Until(b"\n", limit=100), 10.0, CA)) == [b"100001\n"]
