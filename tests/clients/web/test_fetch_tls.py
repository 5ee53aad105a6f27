"""``daemons fetch`` over TLS: verification, truncation and redirects to http."""

from __future__ import annotations

import shutil
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.certificates import folder
from tests.clients.foreign import Foreign, until_end
from tests.clients.net.test_tls_report import s_server
from tests.clients.test_ask_tls import server
from tests.clients.web.conftest import Running
from tests.clients.web.responses import OK, Capture
from tests.clients.web.site import daemons

CA = folder() / "ca.pem"


@pytest.mark.parametrize(
    ("certificate", "host", "cafile", "expected"),
    [
        ("expired.pem", "localhost", CA, "it has expired"),
        ("selfsigned.pem", "localhost", CA, "it is self-signed, not signed by a CA; to trust it, name it"),
        ("server.pem", "localhost", None, "no CA known to this system has signed it; name the right one with --cafile"),
        ("selfsigned.pem", "127.0.0.1", folder() / "selfsigned.pem", "wrong name: IP address mismatch"),
    ],
)
def test_untrusted_certificate_is_refused_with_the_reason(
    certificate: str, host: str, cafile: Path | None, expected: str, capsys: Capture
) -> None:
    words = ("--cafile", cafile) if cafile else ()
    with server(certificate, OK + b"Content-Length: 6\r\n\r\nsecret") as address:
        assert daemons("fetch", f"https://{host}:{address.port}/", *words) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"daemons fetch: https://{host}:{address.port}/: the certificate does not verify: {expected}")


def test_tls_truncation_and_plain_http_are_errors(capsys: Capture) -> None:
    with server("expired.pem", OK + b"Content-Length: 2\r\n\r\nhi") as address:
        assert daemons("fetch", "-k", f"https://localhost:{address.port}/") == 0
    assert capsys.readouterr() == ("hi", "")
    with server("server.pem", OK + b"\r\nno end but this", close_notify=False) as address:
        assert daemons("fetch", "--cafile", CA, f"https://localhost:{address.port}/") == 1
    assert capsys.readouterr().err.endswith("/: cut off: the connection ended without close_notify\n")

    def unaware(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 400 What?\r\n\r\n")
        with suppress(ConnectionResetError):
            until_end(client)

    with Foreign(unaware) as foreign:
        assert daemons("fetch", f"https://127.0.0.1:{foreign.port}/") == 1
    assert capsys.readouterr().err.endswith("/: TLS failed: wrong version number\n")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing: make engines")
def test_openssl_server_works_and_redirect_to_http_is_warned_about(
    site: Running, tmp_path: Path, capsys: Capture
) -> None:
    with s_server("server.pem") as port:
        assert daemons("fetch", "-v", "--cafile", CA, f"https://localhost:{port}/") == 0
    output = capsys.readouterr()
    assert "s_server -www -accept" in output.out
    assert output.err.startswith("-" * 50 + "\nGET / HTTP/1.1\n")
    with server(
        "server.pem", b"HTTP/1.1 302 F\r\nContent-Length: 0\r\nLocation: %b/good\r\n\r\n" % site.url.encode()
    ) as at:
        assert daemons("fetch", "--cafile", CA, "-u", "me:pw", f"https://localhost:{at.port}/") == 0
    err = capsys.readouterr().err
    assert err == f"redirected, 302: {site.url}/good: WARNING! From https to http\n"
    assert "Authorization" not in site.received[-1].fields
