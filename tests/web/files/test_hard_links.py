"""Protection under hard links, also after the root is replaced."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from daemons.web.files import hard_links
from daemons.web.site.gate import Gate
from daemons.web.site.redirects import Redirect
from tests.web.example_site import TEXT, ask
from tests.web.files.protected_site import SECRET, assert_protected, put, site
from tests.web.site.test_protection import GOOD


@pytest.mark.parametrize("protected", ["/private", "/private/deep/plan.html"])
def test_hard_link_of_a_protected_file_needs_its_password(folder: Path, protected: str) -> None:
    file = put(folder, "private/deep/plan.html")
    os.link(file, folder / "www" / "copy.html")
    os.link(file, folder / "www" / "sub" / "index.htm")
    os.link(put(folder, "public.txt", TEXT), folder / "www" / "public2.txt")
    httpd = site(folder, protected, index="index.htm")
    assert_protected(httpd, "/copy.html")
    assert_protected(httpd, "/sub/")
    assert_protected(httpd, "/private/deep/plan.html")
    assert ask(httpd, "/public2.txt").body == TEXT


def test_hard_link_created_later_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_links, "FRESH", 0.0)
    monkeypatch.setattr(hard_links, "FACTOR", 0)
    os.link(put(folder, "public.txt", TEXT), folder / "www" / "public2.txt")
    file = put(folder, "private/plan.html")
    httpd = site(folder, "/private")
    assert ask(httpd, "/public.txt").status == 200
    os.link(file, folder / "www" / "copy.html")
    assert_protected(httpd, "/copy.html")


def test_hard_links_are_refused_beyond_the_limit_of_the_index(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hard_links, "MOST", 3)
    os.link(put(folder, "public.txt", TEXT), folder / "www" / "public2.txt")
    for number in range(4):
        put(folder, f"private/{number}.txt")
    httpd = site(folder, "/private", listing=True)
    assert ask(httpd, "/public.txt").status == 403
    assert ask(httpd, "/text.txt").status == 200
    assert b"public2" not in ask(site(folder, "/private", listing=True, index="none"), "/").body
    assert "more than 3 files" in caplog.text


def test_replaced_root_is_protected_at_once(folder: Path) -> None:
    """The root is replaced by renaming a link; the index of the old root does not apply to the new one."""
    for version in ("1", "2"):
        put(folder, "private/plan.html")
        put(folder, "public/text.html", TEXT)
        for name in ("private/plan.html", "public/text.html"):
            os.link(folder / "www" / name, folder / "www" / f"copy{name[:2]}.html")
        (folder / "www").rename(folder / version)
    (folder / "www").symlink_to("1")
    httpd = site(folder, "/private")
    for version in ("2", "1", "2"):
        assert [ask(httpd, path).status for path in ("/copypr.html", "/copypu.html")] == [401, 200]
        (folder / "new").symlink_to(version)
        (folder / "new").rename(folder / "www")
    assert ask(httpd, "/copypr.html").status == 401


def test_request_during_replacement_of_the_root_gets_503(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, "private/plan.html")
    os.link(folder / "www" / "private" / "plan.html", folder / "www" / "copy.html")
    (folder / "www").rename(folder / "1")
    (folder / "2").mkdir()
    (folder / "www").symlink_to("1")
    httpd = site(folder, "/private")
    check = Gate.check

    def replace_before(*arguments: Any) -> Any:
        (folder / "new").symlink_to("2")
        (folder / "new").rename(folder / "www")
        return check(*arguments)

    monkeypatch.setattr(Gate, "check", replace_before)
    found = ask(httpd, "/copy.html")
    assert (found.status, found.fields["Retry-After"]) == (503, "1")


def test_hard_links_are_refused_while_protected_directories_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the index, any file with several links may be a protected one."""
    monkeypatch.setattr(hard_links, "FRESH", 60.0)
    deep = put(folder, "private/deep/plan.html").parent
    put(folder, "private/closed/other.html")
    os.link(deep / "plan.html", folder / "www" / "link.html")
    os.link(put(folder, "open.html", TEXT), folder / "www" / "public.html")
    httpd = site(folder, "/private")
    assert [ask(httpd, path).status for path in ("/link.html", "/public.html")] == [401, 200]

    httpd = site(folder, "/private")
    with descriptors_left(2):  # the root and the file
        assert ask(httpd, "/link.html", "X-Number: 1").status == 503
    assert ask(httpd, "/short.txt").status == 200  # reads the mount points
    with descriptors_left(2):
        assert ask(httpd, "/link.html").status == 403
    if os.geteuid() == 0:
        return  # root may read all directories
    httpd = site(folder, "/private")
    deep.chmod(0o311)
    try:
        assert ask(httpd, "/private/deep/plan.html", GOOD).body == SECRET
        assert [ask(httpd, path).status for path in ("/link.html", "/public.html")] == [403, 403]
    finally:
        deep.chmod(0o755)
    closed = folder / "www" / "private" / "closed"
    httpd = site(folder, "/private")
    closed.chmod(0)  # files that cannot be opened by their own path
    try:
        assert [ask(httpd, path).status for path in ("/link.html", "/public.html")] == [401, 200]
    finally:
        closed.chmod(0o755)


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Use up all descriptors but `count`."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, before[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_failure_to_look_up_a_protected_path_discloses_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The protected path may be there, although stat(2) fails, and its file have another name."""
    file = put(folder, "plan.html")
    os.link(file, folder / "www" / "copy.html")
    os.link(put(folder, "old.html", TEXT), folder / "www" / "older.html")
    httpd = site(folder, "/plan.html", redirects={"/old.html": Redirect(410, "")})
    assert [ask(httpd, path).status for path in ("/copy.html", "/older.html")] == [401, 404]
    stat = os.stat

    def failing(path: Any, *arguments: Any, **keywords: Any) -> os.stat_result:
        if path == os.fsencode(file):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", failing)
        assert ask(httpd, "/copy.html", "X-Number: 1").status == 401
    file.unlink()
    assert ask(httpd, "/copy.html", "X-Number: 2").status == 200
    httpd = site(folder, "/plan.html", redirects={"/old.html": Redirect(410, "")})
    with descriptors_left(1):  # the root
        assert ask(httpd, "/older.html").status == 503
    assert ask(httpd, "/older.html", "X-Number: 2").status == 404  # not from the cache
