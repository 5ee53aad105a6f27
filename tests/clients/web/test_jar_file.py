"""Concurrent use of a cookie file, and invalid cookie files."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.cookiejar import Cookie
from pathlib import Path

import pytest

from daemons.clients.web import cookies
from daemons.clients.web.common import Failure
from daemons.clients.web.cookies import JarFile
from tests.clients.foreign import Foreign, until_delimiter
from tests.clients.test_tools import closed_port
from tests.clients.web.conftest import Running
from tests.clients.web.responses import Capture, responding, response
from tests.clients.web.site import daemons

MIB = 1024**2


def cookie(name: str, value: str) -> Cookie:
    line = f"127.0.0.1\tFALSE\t/\tFALSE\t{int(time.time()) + 1000}\t{name}\t{value}\n"
    made = cookies._cookie(line.rstrip("\n"))
    assert made is not None
    return made


def kept(path: Path) -> dict[str, str | None]:
    return {each.name: each.value for each in JarFile(path).jar}


def test_cookies_that_two_sessions_save_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "jar"
    one, other = JarFile(path), JarFile(path)
    one.jar.set_cookie(cookie("one", "1"))
    other.jar.set_cookie(cookie("other", "2"))
    one.save()
    other.save()
    assert kept(path) == {"one": "1", "other": "2"}


def test_saving_merges_only_the_changes_of_this_session(tmp_path: Path) -> None:
    path = tmp_path / "jar"
    first = JarFile(path)
    for name in ("deleted", "deleted and set anew", "changed", "changed by the other", "left"):
        first.jar.set_cookie(cookie(name, "first"))
    first.save()
    one, other = JarFile(path), JarFile(path)
    for name in ("deleted", "deleted and set anew"):
        one.jar.clear("127.0.0.1", "/", name)
    one.jar.set_cookie(cookie("changed", "one"))
    other.jar.set_cookie(cookie("deleted and set anew", "other"))
    other.jar.set_cookie(cookie("changed by the other", "other"))
    other.save()
    one.save()
    assert kept(path) == {
        "deleted and set anew": "other",
        "changed": "one",
        "changed by the other": "other",
        "left": "first",
    }


def test_each_of_many_concurrent_sessions_keeps_its_cookie(tmp_path: Path) -> None:
    path = tmp_path / "jar"

    def use(number: int) -> None:
        for turn in range(5):
            session = JarFile(path)
            session.jar.set_cookie(cookie(f"{number}.{turn}", "x"))
            session.save()

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept(path)) == 40
    assert os.listdir(tmp_path) == ["jar"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_concurrent_fetches_keep_the_cookies_of_both(tmp_path: Path) -> None:
    path = tmp_path / "jar"
    with responding(response(b"", "Set-Cookie: inner=1; Max-Age=1000")) as inner:

        def fetch_meanwhile() -> None:
            assert daemons("fetch", "--jar", path, f"http://127.0.0.1:{inner.port}/") == 0

        with during_the_response(fetch_meanwhile, response(b"", "Set-Cookie: outer=1; Max-Age=1000")) as outer:
            assert daemons("fetch", "--jar", path, f"http://127.0.0.1:{outer.port}/") == 0
    assert set(kept(path)) == {"inner", "outer"}


def during_the_response(action: Callable[[], None], answer: bytes) -> Foreign:
    """Return a server that calls `action` before it responds."""

    def visit(client: socket.socket) -> None:
        until_delimiter(client, b"\r\n\r\n")
        action()
        client.sendall(answer)

    return Foreign(visit)


def test_jar_that_another_process_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookies, "PATIENCE", 0.05)
    path = tmp_path / "jar"
    session = JarFile(path)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Failure, match=r"--jar .*/jar: locked by another process for more than 0.05 s"):
            session.save()
    session.save()
    assert path.read_text() == cookies.HEAD


def test_invalid_cookie_file_is_one_line_of_error(tmp_path: Path, capsys: Capture) -> None:
    fifo, huge, linked = tmp_path / "fifo", tmp_path / "huge", tmp_path / "linked"
    os.mkfifo(fifo)
    with huge.open("wb") as file:
        file.truncate(1024 * MIB)
    linked.symlink_to("/dev/zero")
    special = "not a regular file"
    for path, expected in (
        (Path("/dev/zero"), special),
        (linked, special),
        (fifo, special),
        (huge, "more than 16 MiB; expected a file of cookies"),
    ):
        assert daemons("fetch", "--jar", path, f"http://127.0.0.1:{closed_port()}/") == 1
        assert capsys.readouterr() == ("", f"daemons fetch: --jar {path}: {expected}\n")


def test_cookies_of_a_file_with_crlf_are_sent(site: Running, tmp_path: Path, capsys: Capture) -> None:
    jar = tmp_path / "jar"
    jar.write_bytes(b"# Netscape HTTP Cookie File\r\n\r\n127.0.0.1\tFALSE\t/\tFALSE\t0\tquest\tgrail\r\n")
    assert daemons("fetch", "--jar", jar, f"{site.url}/cookie") == 0
    assert capsys.readouterr().out == "quest=grail"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: make engines")
def test_cookie_file_is_compatible_with_curl(site: Running, tmp_path: Path, capsys: Capture) -> None:
    own, curls = tmp_path / "own", tmp_path / "curls"
    url = site.url.replace("127.0.0.1", "localhost")
    for jar, where in ((own, site.url), (curls, url)):
        for path in ("cookie", "lasting"):
            subprocess.run(["curl", "-s", "-c", curls, "-b", curls, f"{where}/{path}"], check=True, capture_output=True)
            assert daemons("fetch", "--jar", own, f"{where}/{path}") == 0
        capsys.readouterr()
        assert daemons("fetch", "--jar", jar, f"{where}/cookie") == 0
        assert sorted(capsys.readouterr().out.split("; ")) == ["age=1", "quest=grail"]
        shown = subprocess.run(["curl", "-s", "-b", jar, f"{where}/cookie"], check=True, capture_output=True).stdout
        assert sorted(shown.split(b"; ")) == [b"age=1", b"quest=grail"]
        own, curls = curls, own
    assert own.stat().st_mode & 0o777 == curls.stat().st_mode & 0o777 == 0o600
