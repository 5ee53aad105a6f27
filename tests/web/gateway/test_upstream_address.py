"""The section [proxy] of an ini file."""

from __future__ import annotations

import pytest

from daemons.operating.loading.targets import target_of
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("/app = 8001", "/app = 8001: not a server address; write 127.0.0.1:8001, [::1]:8001 or unix:run/webapp.sock"),
        ("/app = http://localhost:8001/", "/app = http://localhost:8001/: not a server address; write 127.0.0.1:8001"),
        ("/app = localhost:70000", "/app = localhost:70000: not a port"),
        ("/app = localhost:0", "/app = localhost:0: port 0 is not valid"),
        ("/app = unix:", "/app = unix:: no path"),
        ("/app = [::::]:80", "/app = [::::]:80: :::: is not an IPv6 address; write [::1]:8001"),
        ("/app = [1.2.3.4]:80", "/app = [1.2.3.4]:80: 1.2.3.4 is not an IPv6 address"),
        (f"/app = unix:/{'x' * 107}", f"/app = unix:/{'x' * 107}: /{'x' * 107} is longer than 107 bytes, the limit"),
        ("/app = [::1]:8001\n[documents]\n/app = notes", "/app: [documents] has the same path"),
    ],
)
def test_invalid_proxy_setting_is_refused(folder: Folder, line: str, wrong: str) -> None:
    (folder.path / "www").mkdir()
    ini = f"[daemon]\nservice = httpd\nport = 8080\nengine = pool\n[httpd]\nroot = www\n[proxy]\n{line}\n"
    folder.write("x", ini)
    with pytest.raises(ConfigurationError) as caught:
        target_of(folder.read()).request_handlers()
    (complaint,) = caught.value.complaints
    assert complaint.startswith(f"conf/x.ini [proxy] {wrong}")


@pytest.mark.parametrize(
    ("table", "line"),
    [("proxy", "/a = unix:run/a.sock"), ("documents", "/a = notes"), ("redirects", "/a = 301 /b")],
)
def test_blocking_sections_are_refused_under_loop(folder: Folder, table: str, line: str) -> None:
    (folder.path / "www").mkdir()
    folder.write("x", f"[daemon]\nservice = httpd\nport = 1\n[httpd]\nroot = www\n[{table}]\n{line}\n")
    target_of(folder.read("daemon.engine=pool")).request_handlers()
    if table == "redirects":
        target_of(folder.read("daemon.engine=loop")).request_handlers()
        return
    with pytest.raises(ConfigurationError, match=rf"blocks: \[{table}\]; write engine = pool"):
        target_of(folder.read("daemon.engine=loop")).request_handlers()
