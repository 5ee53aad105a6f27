"""[webapp] in an ini, and the one request of CGI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from daemons.cli.command import main
from daemons.operating.loading.targets import target_of
from daemons.settings.complaints import ConfigurationError
from tests.accounts.files import write_lines
from tests.operating.folder import Folder

INI = """
    [daemon]
    wsgi = daemons.webapp:Webapp
    port = 0
    engine = pool
"""

WRONG = {
    "key = run/": "[webapp] key = run/: not a file; write run/NAME, or a path relative to the project's folder",
    "session = long": "[webapp] session = long: not a duration; write 10s, 5m or 1h",
    "hosts = http://a": "[webapp] hosts = http://a: http://a: expected a name without a port, such as localhost",
    "hosts = ::g": "[webapp] hosts = ::g: ::g: neither a name nor an address; write localhost or 127.0.0.1",
    "proxies = front": "[webapp] proxies = front: front: neither an address nor unix; write 127.0.0.1, ::1 or unix",
    "banner = $tim": "[webapp] banner = $tim: unknown name: tim; write $time or $visitor, and $$ for a $",
    "banner = $5": "[webapp] banner = $5: a $ without a name; write $time or $visitor, and $$ for a $",
    "kez = a": "[webapp] kez: no such setting; did you mean key?",
}


@pytest.mark.parametrize("line", WRONG)
def test_invalid_setting_is_refused_before_the_bind(folder: Folder, line: str) -> None:
    folder.write("x", f"{INI}    [webapp]\n    {line}\n")
    with pytest.raises(ConfigurationError) as caught:
        target_of(folder.read()).request_handlers()
    assert str(caught.value) == f"conf/x.ini {WRONG[line]}"


def test_wrong_users_file_is_complained_of_before_anything_is_bound(folder: Folder) -> None:
    folder.write("x", INI)
    (folder.path / "run").mkdir()
    write_lines(folder.path / "run" / "webapp.users", "brandon")
    with pytest.raises(ConfigurationError, match=r"run/webapp\.users: line 1: not a hash; expected scrypt"):
        target_of(folder.read()).request_handlers()


def test_a_good_one_makes_no_file_yet_and_hosts_may_be_addresses(folder: Folder) -> None:
    folder.write("x", f"{INI}    [webapp]\n    hosts = localhost [::1] ::2\n    proxies = unix ::0001\n")
    options = target_of(folder.read()).options
    assert (options.hosts, options.proxies) == (("localhost", "::1", "::2"), ("unix", "::1"))
    target_of(folder.read()).request_handlers()
    assert not (folder.path / "run").exists()


def test_a_package_that_is_missing_is_named_with_its_extra(folder: Folder) -> None:
    folder.write("x", INI)
    script = "import sys; sys.modules['werkzeug'] = None; from daemons.cli.command import main; main()"
    command = [sys.executable, "-c", script, "check", "--conf", str(folder.conf)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.search(
        "daemons.webapp needs werkzeug.*, which is not installed: pip install 'camelot-daemons", done.stderr
    )


def test_the_client_asks_for_paths(folder: Folder) -> None:
    folder.write("x", INI)
    kind = target_of(folder.read()).served_class
    assert kind.questions == (b"/",)
    asked = kind.messages([b"/weather", b"api/weather/Phoenix, AZ"])
    assert [each.split(b" HTTP/1.1\r\n")[0] for each in asked] == [
        b"GET /weather",
        b"GET /api/weather/Phoenix,%20AZ",
    ]
    assert [b"Connection: close" in each for each in asked] == [False, True]


# --- CGI -------------------------------------------------------------------------------------------


def cgi(folder: Folder, body: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run as CGI: only the request in the environment, and another working directory."""
    command = [sys.executable, "-m", "daemons", "cgi", "x", "--conf", str(folder.conf)]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, cwd="/", env={**path, **environ}, input=body, capture_output=True, check=False)


def test_a_form_by_cgi(folder: Folder) -> None:
    folder.write("x", INI)
    done = cgi(
        folder,
        b"inputstring=Phoenix%2C+AZ and trailing bytes",
        REQUEST_METHOD="POST",
        PATH_INFO="/zipcity.php",
        CONTENT_TYPE="application/x-www-form-urlencoded",
        CONTENT_LENGTH="25",
    )
    head, _, page = done.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"Status: 200 OK\r\nContent-Type: text/html")
    assert b"<td>Fair</td>" in page
    assert page.endswith(b"</html>")
    assert (done.stderr, done.returncode) == (b"", 0)


def test_log_and_standard_output_are_not_part_of_the_response(folder: Folder) -> None:
    folder.module(
        "pages",
        """
        import logging
        import os


        def application(environ, start_response):
            assert "HTTP_PROXY" not in {**environ, **os.environ}
            print("said aloud")
            logging.getLogger(__name__).warning("noted")
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"Ni!"]
        """,
    )
    folder.write("x", "[daemon]\nwsgi = pages:application\nport = 0\n")
    done = cgi(folder, REQUEST_METHOD="GET", HTTP_PROXY="http://evil.example")
    assert done.stdout.endswith(b"\r\n\r\nNi!")
    assert b"said aloud" in done.stderr
    assert b"WARNING pages" in done.stderr
    assert done.returncode == 0


def test_failing_application_is_500_with_the_reason_in_the_log(folder: Folder) -> None:
    folder.write("x", f"{INI}    [webapp]\n    session = long\n")
    done = cgi(folder, REQUEST_METHOD="GET", SECRET="s3cret")
    assert done.stdout.startswith(b"Status: 500 Internal Server Error\r\nContent-Type: text/plain")
    assert b"long" not in done.stdout
    assert b"[webapp] session = long: not a duration" in done.stderr
    assert done.returncode == 100


def test_missing_request_or_application_is_an_error(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write("zen", "[daemon]\nservice = zen\nport = 0\n")
    assert "REQUEST_METHOD" not in os.environ
    assert main(["cgi", "zen", "--conf", str(folder.conf)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.partition(";")[0]) == ("", "zen: REQUEST_METHOD is not set")
    with pytest.raises(ConfigurationError, match=r"zen.ini \[daemon\] service = zen: no WSGI application"):
        target_of(folder.read(name="zen")).application()
