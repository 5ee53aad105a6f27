"""A wrong zone file is reported as a wrong configuration."""

from __future__ import annotations

import os

import pytest

from daemons.cli.command import main
from tests.operating.folder import Folder

ZONE = "$ORIGIN x.test.\n$TTL 1h\n@ SOA ns hostmaster 1 2 3 4 5\n@ NS ns\n"
INI = "[daemon]\nservice = dns\nport = 1053\n"


def test_check_finds_a_wrong_zone_from_any_working_folder(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["check", "--conf", str(folder.conf)]
    folder.write("dns", f"{INI}\n[dns]\nzone = conf/x.zone\n")
    where = "conf/dns.ini [dns] zone = conf/x.zone: "
    assert main(check) == 100
    assert capsys.readouterr().err == f"{where}conf/x.zone: no such file or directory\n"
    zone = folder.conf / "x.zone"
    zone.write_text(ZONE + "ns A 127.0.0.1\n")
    assert main(check) == 0
    zone.write_text(ZONE + "ns A\n")
    assert main(check) == 100
    assert f"{where}conf/x.zone line 5: 'ns A': " in capsys.readouterr().err
    zone.unlink()
    os.mkfifo(zone)
    assert main(check) == 100
    assert capsys.readouterr().err == f"{where}conf/x.zone: not a regular file\n"
    folder.write("dns", INI)
    assert main(check) == 100
    assert capsys.readouterr().err == (
        "conf/dns.ini [daemon] service = dns: Dns: no zone; write [dns] zone = FILE, for example conf/camelot.zone\n"
    )
