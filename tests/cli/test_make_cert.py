"""``daemons cert``: a CA and a certificate that the strictest client accepts."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from daemons.cli.command import main
from tests.operating.folder import Folder
from tests.operating.live import GRAIL, Live, daemons, type_in

SECURE = """
    [daemon]
    service = launcelot
    listen = tls://127.0.0.1:0

    [tls]
    certificate = run/tls/server.pem
    key = run/tls/server.key
"""


def loaded(folder: Folder, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder.path / "run" / "tls" / name).read_bytes())


def test_files_and_certificates(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    conf = str(folder.conf)
    assert main(["cert", "--conf", conf, "--host", "camelot.example", "--host", "192.0.2.1", "--days", "3"]) == 0
    made = folder.path / "run" / "tls"
    assert {path.name: f"{path.stat().st_mode & 0o777:o}" for path in made.iterdir()} == {
        "ca.pem": "644",
        "ca.key": "600",
        "server.pem": "644",
        "server.key": "600",
    }
    ca, server = loaded(folder, "ca.pem"), loaded(folder, "server.pem")
    server.verify_directly_issued_by(ca)
    for certificate, is_ca in ((ca, True), (server, False)):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert (basic.critical, basic.value.ca, usage.critical, usage.value.key_cert_sign) == (True, is_ca, True, is_ca)
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert lifetime.days == 3
    purposes = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "camelot.example"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "192.0.2.1"]
    out = capsys.readouterr().out
    assert "certificate = run/tls/server.pem\n    key = run/tls/server.key\n" in out
    assert "openssl s_client -connect 127.0.0.1:1060 -CAfile run/tls/ca.pem" in out


def test_printed_instructions_work(folder: Folder) -> None:
    folder.write("launcelot", SECURE)
    made = daemons(folder.path, "cert")
    assert made.returncode == 0, made.stderr
    assert daemons(folder.path, "check").stdout == "OK: launcelot\n"
    with Live(folder.path, "launcelot") as daemon:
        asked = daemons(folder.path, "ask", "launcelot", "-", "What is your quest?", "-p", str(daemon.port))
        assert (asked.stdout, asked.stderr, asked.returncode) == (GRAIL.decode() + "\n", "", 0)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_the_strictest_client_accepts_it(folder: Folder, host: str) -> None:
    assert main(["cert", "--conf", str(folder.conf)]) == 0
    made = folder.path / "run" / "tls"
    theirs = ssl.create_default_context(cafile=str(made / "ca.pem"))
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(made / "server.pem", made / "server.key")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = theirs.wrap_bio(back, there, server_hostname=host)
    server = ours.wrap_bio(there, back, server_side=True)
    for end in (client, server):
        with pytest.raises(ssl.SSLWantReadError):
            end.do_handshake()
    client.do_handshake()
    assert client.getpeercert()


def test_failure_to_write_leaves_the_old_files(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cert", "--conf", str(folder.conf), "--force"]
    assert main(command) == 0
    made = folder.path / "run" / "tls"
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    capsys.readouterr()
    # RLIMIT_FSIZE of setrlimit(2) refuses as a full disk does.
    full = type_in(folder.path, "bash", "-c", "ulimit -f 0; daemons cert --force 2>&1 | cat; exit ${PIPESTATUS[0]}")
    assert (full.returncode, full.stdout) == (111, f"daemons cert: {made}/.ca.pem.new: file too large\n")
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    (made / ".server.key.new").mkdir()
    assert main(command) == 111
    assert f"{made}/.server.key.new: is a directory\n" in capsys.readouterr().err
    (made / ".server.key.new").rmdir()
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


def test_existing_files_are_overwritten_only_with_force(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cert", "--conf", str(folder.conf), "--out", str(folder.path / "elsewhere")]
    assert main(command) == 0
    assert "certificate = elsewhere/server.pem" in capsys.readouterr().out
    key = folder.path / "elsewhere" / "server.key"
    before = key.read_bytes()
    assert main(command) == 1
    err = capsys.readouterr().err
    assert (str(key) in err, err.endswith("overwrite them with --force\n"), err.count("\n")) == (True, True, 1)
    assert key.read_bytes() == before
    assert main([*command, "--force"]) == 0
    assert key.read_bytes() != before
    assert f"{key.stat().st_mode & 0o777:o}" == "600"


def test_the_run_folder_may_be_elsewhere(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write("x", SECURE)
    run = folder.path / "var"
    assert main(["cert", "--conf", str(folder.conf), "--run", str(run)]) == 0
    assert (run / "tls" / "server.key").exists()
    assert "certificate = run/tls/server.pem" in capsys.readouterr().out
    assert main(["check", "--conf", str(folder.conf), "--run", str(run)]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "no host"], "daemons cert: --host no host: neither a host name nor an address\n"),
        (["--host", "-x.example"], "daemons cert: --host -x.example: neither a host name nor an address\n"),
        (["--days", "0"], "daemons cert: --days 0: a whole number above 0 is expected\n"),
    ],
)
def test_invalid_names_and_days_are_refused(
    folder: Folder, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    joined = [f"{options[0]}={options[1]}"]
    assert main(["cert", "--conf", str(folder.conf), *joined]) == 2
    assert capsys.readouterr().err == said
    assert not (folder.path / "run").exists()


def test_where_nothing_can_be_written(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.path / "file").write_text("")
    assert main(["cert", "--conf", str(folder.conf), "--out", str(folder.path / "file" / "x")]) == 111
    assert capsys.readouterr().err.endswith("not a directory\n")


def test_without_the_package_one_line_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\nfrom daemons.cli.command import main; sys.exit(main(['cert']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "pip install 'camelot-daemons[tls]'" in ended.stderr


def test_openssl_at_its_strictest_accepts_both(folder: Folder) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is missing: make engines")
    assert main(["cert", "--conf", str(folder.conf)]) == 0
    made = folder.path / "run" / "tls"
    command = [openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost"]
    verified = subprocess.run(
        [*command, "-CAfile", made / "ca.pem", made / "server.pem"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (verified.returncode, verified.stdout) == (0, f"{made}/server.pem: OK\n"), verified.stderr
