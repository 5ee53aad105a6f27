"""``daemons tls-report`` with foreign servers: reports, and reasons for failed verification."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from cryptography import x509 as theirs
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from daemons.cli.command import main
from daemons.clients.net import x509
from tests.certificates import folder
from tests.clients.foreign import Foreign
from tests.clients.test_ask_tls import server

CA = folder() / "ca.pem"

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing: make engines")


def report(*words: object) -> int:
    """Run ``daemons tls-report WORDS``; return the exit code."""
    return main(["tls-report", *map(str, words)])


@contextmanager
def s_server(certificate: str, *options: str) -> Iterator[str]:
    """Run ``openssl s_server -www``; yield its port."""
    key = folder() / ("server.key" if certificate == "server.pem" else certificate)
    command = ["openssl", "s_server", "-www", "-accept", "127.0.0.1:0", "-cert", str(folder() / certificate)]
    with subprocess.Popen(
        [*command, "-key", str(key), *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield next(found[1] for line in process.stdout if (found := re.match(r"ACCEPT .*:(\d+)$", line)))
        finally:
            process.terminate()


def value(out: str, word: str) -> str:
    """Return the value of the line of the report that begins with `word`."""
    return next(line.split(maxsplit=1)[1] for line in out.splitlines() if line.startswith(word))


@needs_openssl
@pytest.mark.parametrize("options", [(), ("-tls1_2",)], ids=" ".join)
def test_report_agrees_with_openssl_s_client(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with s_server("server.pem", "-alpn", "http/1.1", *options) as port:
        assert report("localhost", port, "--cafile", CA, "--document") == 0
        out = capsys.readouterr().out
        client = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(CA), "-alpn", "http/1.1"],
            input="GET / HTTP/1.0\r\n\r\n",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        ).stdout
    assert f"New, {value(out, 'protocol')}, Cipher is {value(out, 'cipher')}\n" in client
    assert f"ALPN protocol: {value(out, 'alpn')}\n" in client
    assert value(out, "bits") in value(out, "cipher")
    assert value(out, "compression") == "none"
    certificate = theirs.load_pem_x509_certificate((folder() / "server.pem").read_bytes())
    assert value(out, "subject") == "CN=localhost"
    assert value(out, "issuer") == certificate.issuer.rfc4514_string()
    assert value(out, "names") == "DNS:localhost, IP:127.0.0.1, IP:::1, DNS:camelot.example"
    before, after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert value(out, "valid") == f"{before:%Y-%m-%d %H:%M:%S} to {after:%Y-%m-%d %H:%M:%S} UTC"
    assert value(out, "sha256") == certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    match = re.search(rf"^The document https://localhost:{port}/ is (\d+) bytes long$", out, re.MULTILINE)
    assert match
    assert int(match[1]) > 1000


@needs_openssl
@pytest.mark.parametrize(
    ("certificate", "name", "expected"),
    [
        ("server.pem", "lancelot.example", "wrong name: Hostname mismatch"),
        ("selfsigned.pem", "localhost", "it is self-signed"),
        ("expired.pem", "localhost", "it has expired"),
    ],
)
def test_unverified_certificate_is_shown(
    certificate: str, name: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with s_server(certificate) as port:
        assert report("127.0.0.1", port, "--cafile", CA, "--name", name, "--document") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"Certificate error: the certificate does not verify: {expected}")
    assert captured.err.count("\n") == 1
    assert captured.out.startswith("verified     no: ")
    assert value(captured.out, "subject") == f"CN={certificate.removesuffix('.pem').replace('server', 'localhost')}"
    assert value(captured.out, "protocol") == "TLSv1.3"
    # No document is requested without verification.
    assert "The document" not in captured.out


def test_server_without_tls_and_closed_port_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    def greet(client: socket.socket) -> None:
        client.sendall(b"220 camelot.example ESMTP\r\n")
        client.recv(1000)

    with Foreign(greet) as foreign:
        port = foreign.port
        assert report("127.0.0.1", port) == 1
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        closed = bound.getsockname()[1]
        assert report("127.0.0.1", closed) == 1
    assert capsys.readouterr() == (
        "",
        f"daemons tls-report: tls://127.0.0.1:{port}: the handshake failed: wrong version number\n"
        f"daemons tls-report: tls://127.0.0.1:{closed}: connection refused\n",
    )


@pytest.mark.parametrize(
    ("response", "close_notify", "expected"),
    [
        (b"Simple is better than complex.", True, "the response to GET / is not HTTP: b'Simple is better"),
        (b"HTTP/1.0 200 ok\r\n", True, "the response to GET / is not HTTP: b'HTTP/1.0 200 ok"),
        (b"HTTP/1.0 200 ok\r\n\r\nhalf of", False, "the connection ended without close_notify"),
    ],
    ids=["no HTTP", "no document", "cut"],
)
def test_malformed_or_truncated_document_is_an_error(
    response: bytes, close_notify: bool, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with server("server.pem", response, close_notify) as address:
        assert report("localhost", address.port, "--cafile", CA, "--document") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"daemons tls-report: tls://localhost:{address.port}: {expected}")
    assert "The document" not in captured.out


@pytest.mark.parametrize("words", [("localhost", "0"), ("localhost", "nowhere"), ("localhost", "1", "-t", "0"), ()])
def test_wrong_command_line_exits_with_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        report(*words)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_names_are_escaped() -> None:
    assert x509.escape_name("a\x1b[2J\n\u202e, CN=b") == "a\\x1b[2J\\n\\u202e\\, CN=b"


DER = ssl.PEM_cert_to_DER_cert((folder() / "server.pem").read_text())


@given(
    st.binary()
    | st.tuples(st.integers(0, len(DER) - 1), st.binary(min_size=1, max_size=4)).map(
        lambda change: DER[: change[0]] + change[1] + DER[change[0] + len(change[1]) :]
    )
)
def test_any_bytes_are_parsed_or_raise_value_error(data: bytes) -> None:
    with suppress(ValueError):
        found = x509.read(data)
        assert "".join([found.subject, found.issuer, *found.names]).isprintable()
