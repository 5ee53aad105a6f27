"""The section [tls]: each fault is one complaint that names the key, before a port is bound."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

import pytest

from daemons.cli.command import main
from daemons.operating import certificates
from daemons.operating.loading.targets import target_of
from daemons.serving.listening.address import parse_address
from daemons.serving.start_tls import StartTLSServer
from daemons.settings.complaints import ConfigurationError
from daemons.settings.regular_file import LARGEST
from tests.certificates import folder as made
from tests.operating.folder import Folder
from tests.operating.live import daemons

LISTEN = "[daemon]\nservice = launcelot\nlisten = tls://127.0.0.1:0\n"


def complaints(folder: Folder, **keys: str) -> list[str]:
    """Of a tls:// listener with these keys in [tls], of which a relative path is one of the made files."""
    lines = [f"{key} = {made() / text if '.' in text and text[0] > '9' else text}" for key, text in keys.items()]
    folder.write("x", LISTEN + "[tls]\n" + "\n".join(lines))
    try:
        certificates.context(folder.read())
    except ConfigurationError as error:
        return [each.replace(f"{made()}/", "") for each in error.complaints]
    return []


def test_valid_files_are_accepted(folder: Folder) -> None:
    assert complaints(folder, certificate="server.pem", key="server.key") == []
    assert complaints(folder, certificate="selfsigned.pem") == []
    assert complaints(folder, certificate="server.pem", key="server.key", client_ca="ca.pem", minimum="1.3") == []
    context = certificates.context(folder.read())
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert certificates.shared_tls(folder.read()) is not None
    assert certificates.shared_tls(folder.read(name="y")) is None


@pytest.fixture(autouse=True)
def _another(folder: Folder) -> None:
    folder.write("y", "[daemon]\nservice = zen\nlisten = tcp://127.0.0.1:0\n")
    folder.write("defaults", f"[tls]\ncertificate = {made()}/server.pem\n")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"certificate": "nowhere.pem"}, "certificate = nowhere.pem: no such file; `daemons cert` makes one to try it"),
        ({"certificate": "server.pem"}, "certificate = server.pem: contains no private key; PEM is expected"),
        ({"certificate": "server.key"}, "certificate = server.key: contains no certificate; PEM is expected"),
        ({"certificate": "server.pem", "key": "ca.key"}, "key = ca.key: the key does not match the certificate"),
        ({"certificate": "server.pem", "key": "nowhere.key"}, "key = nowhere.key: no such file"),
        ({"certificate": "server.pem", "key": "other/."}, "key = other: is a directory"),
        ({"certificate": "server.pem", "key": "ca.pem"}, "key = ca.pem: contains no private key"),
        ({"certificate": "server.pem", "key": "encrypted.key"}, "key = encrypted.key: the key has a passphrase"),
        ({"certificate": "fifo"}, "certificate = fifo: not a regular file"),
        ({"certificate": "server.pem", "key": "fifo"}, "key = fifo: not a regular file"),
        ({"certificate": "server.pem", "key": "server.key", "client_ca": "zeros"}, "client_ca = zeros: larger than 64"),
        ({"certificate": "expired.pem"}, "certificate = expired.pem: no client would accept it: certificate has exp"),
        ({"certificate": "future.pem"}, "certificate = future.pem: no client would accept it: certificate is not yet"),
        ({"certificate": "client.pem"}, "certificate = client.pem: no client would accept it: unsuitable certificate"),
        (
            {"certificate": "server.pem", "key": "server.key", "client_ca": "server.key"},
            "client_ca = server.key: contains no certificate",
        ),
        (
            {"certificate": "server.pem", "key": "server.key", "client_ca": "nowhere.pem"},
            "client_ca = nowhere.pem: no such file",
        ),
    ],
)
def test_invalid_files_are_complaints(folder: Folder, keys: dict[str, str], said: str) -> None:
    os.mkfifo(folder.path / "fifo")
    with open(folder.path / "zeros", "wb") as zeros:
        zeros.truncate(LARGEST + 1)
    (found,) = complaints(folder, **keys)
    assert found.startswith(f"conf/x.ini [tls] {said}")


def test_bundle_with_comments_in_any_language_is_accepted(folder: Folder, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    for notes in ("# Autoridad de Certificaci\u00f3n\n".encode(), b"\xff\n"):
        bundle.write_bytes(notes + (made() / "ca.pem").read_bytes())
        assert complaints(folder, certificate="server.pem", key="server.key", client_ca=str(bundle)) == []
    bundle.write_bytes((made() / "ca.pem").read_bytes().replace(b"\nMII", b"\nM\xc3\xa4I"))
    (found,) = complaints(folder, certificate="server.pem", key="server.key", client_ca=str(bundle))
    assert "contains no certificate" in found


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything: run the tests as another user")
def test_a_key_that_cannot_be_read(folder: Folder, tmp_path: Path) -> None:
    key = tmp_path / "server.key"
    key.write_bytes((made() / "server.key").read_bytes())
    key.chmod(stat.S_IWUSR)
    (found,) = complaints(folder, certificate="server.pem", key=str(key))
    assert found.endswith("permission denied")


def test_a_listener_without_a_certificate_and_a_section_without_a_listener(folder: Folder) -> None:
    folder.write("defaults", "")
    folder.write("x", LISTEN)
    (found,) = folder.complaints()
    assert found.startswith("conf/x.ini [daemon] listen: tls://127.0.0.1:0 needs a certificate; write [tls]")
    unused = ["conf/x.ini [tls]: no listener uses it; write listen = tls://HOST:PORT"]
    for line in ("jsonrpc = math\nport = 0", "service = launcelot\nlisten = unix:run/x.sock"):
        folder.write("x", f"[daemon]\n{line}\n[tls]\nminimum = 1.3\n")
        assert folder.complaints() == unused
    folder.write("x", "[daemon]\nservice = launcelot\nport = 0\n[tls]\n")
    assert folder.complaints() == unused
    folder.write("x", "[daemon]\nservice = launcelot\nport = 0\n[tls]\nminimum = 1.3\n")
    assert handler_complaints(folder) == unused
    # In defaults.ini, [tls] is for the daemons with a tls:// listener.
    folder.write("defaults", "[tls]\nminimum = 1.3\n")
    folder.write("x", "[daemon]\nservice = launcelot\nport = 0\n")
    assert folder.complaints() == []


STARTS_TLS = """
    from daemons import Lines, Service, StartTLS

    class Post(Service):
        framing = Lines(limit=100)
        starts_tls = True

        def talk(self, peer):
            yield None
            yield StartTLS(b"go ahead")
"""


def handler_complaints(folder: Folder) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        target_of(folder.read()).request_handlers()
    return raised.value.complaints


def test_section_of_a_service_that_begins_tls(folder: Folder, tmp_path: Path) -> None:
    folder.module("starts_tls_post", STARTS_TLS)
    ini = "[daemon]\nservice = starts_tls_post:Post\nlisten = {}\n[tls]\n"
    folder.write("defaults", "")
    certificate = f"certificate = {made()}/server.pem\nkey = {made()}/server.key\n"
    for listen in ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0 tls://127.0.0.1:0"):
        folder.write("x", ini.format(listen) + certificate)
        settings = folder.read()
        assert settings.over_tls
        assert target_of(settings).request_handlers().server_class is StartTLSServer
        assert certificates.shared_tls(settings) is not None
    folder.write("x", ini.format("tcp://127.0.0.1:0") + "minimum = 1.3\n")
    assert handler_complaints(folder) == ["conf/x.ini [tls] certificate: missing; write certificate = FILE"]
    folder.write("x", ini.format("unix:x.sock") + certificate)
    assert folder.complaints() == ["conf/x.ini [tls]: no listener uses it; write listen = tls://HOST:PORT"]
    # In defaults.ini, [tls] is for the daemons with a tls:// listener.
    folder.write("defaults", "[tls]\n" + certificate)
    folder.write("x", "[daemon]\nservice = starts_tls_post:Post\nport = 0\n")
    assert not folder.read().over_tls


def test_check_finds_a_missing_certificate_of_a_service_that_begins_tls(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.module("starts_tls_post", STARTS_TLS)
    folder.write("x", "[daemon]\nservice = starts_tls_post:Post\nport = 0\n[tls]\ncertificate = none.pem\n")
    assert main(["check", "--conf", str(folder.conf)]) == 100
    assert "conf/x.ini [tls] certificate = none.pem: no such file" in capsys.readouterr().err


def test_minimum(folder: Folder) -> None:
    folder.write("x", LISTEN)
    assert folder.complaints("tls.minimum=1.1") == ["--set [tls] minimum = 1.1: write 1.2 or 1.3; did you mean 1.3?"]


def test_check_and_run_report_the_complaint_and_exit_100(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write("x", f"{LISTEN}[tls]\ncertificate = {made()}/expired.pem\n")
    assert main(["check", "--conf", str(folder.conf)]) == 100
    said = f"conf/x.ini [tls] certificate = {made()}/expired.pem: no client would accept it: certificate has expired\n"
    assert capsys.readouterr().err == said
    for processes in ("1", "2"):
        ended = daemons(folder.path, "run", "x", "--processes", processes)
        assert (ended.returncode, ended.stderr) == (100, f"x: {said}")


def test_two_daemons_cannot_have_one_port_whether_in_clear_or_not(folder: Folder) -> None:
    assert parse_address("tls://127.0.0.1:1").conflicts_with(parse_address("tcp://127.0.0.1:1"))
    assert parse_address("tcp://0.0.0.0:1").conflicts_with(parse_address("tls://127.0.0.1:1"))
    assert not parse_address("tls://127.0.0.1:1").conflicts_with(parse_address("tcp://127.0.0.1:2"))
    assert str(parse_address("tls://[::1]:443").at(port=8443)) == "tls://[::1]:8443"
