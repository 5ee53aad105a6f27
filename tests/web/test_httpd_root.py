"""No path leaves the root, and only regular files are opened."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.httpd import Httpd
from daemons.web.files.lookup import Files, IsFolder, Refused
from daemons.web.site.protection import Realm
from tests.web.example_site import SECRET, ask, make, request, send, service, talking


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield make(Path(folder))


@pytest.fixture(scope="module")
def httpd(root: str) -> Httpd:
    return service(root, listing=True)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..",
        "/../",
        "/sub/../../secret.txt",
        "/sub/../text.txt",
        "/./text.txt",
        "/%2e%2e/secret.txt",
        "/%2E./secret.txt",
        "/..%2fsecret.txt",
        "/..%2Fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/%252e%252e/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/%c0%2e%c0%2e/secret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/sub\\..\\..\\secret.txt",
        "/\\evil.example",
        "/..;/secret.txt",
        "/...//secret.txt",
        "/text.txt%00",
        "/text.txt%00.png",
        "/%00",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/%2Fetc%2Fpasswd",
        "///etc/passwd",
        "//evil.example/sub",
        "/sub//",
        "/../wwwroot/secret.txt",
        "/out/secret.txt",
        "/out/",
        "/out",
        "/link.txt",
        "/within.txt",
        "/null",
        "/loop",
        "/loop/x",
        "/fifo",
        "/fifo/",
        "/.hidden",
        "/.git/config",
        "/%2egit/config",
        "/sub/%2e%2e/.git/config",
        "/sub/.",
        "/%zz",
        "/%",
        "/*",
        "/~root/",
        "/C:/secret.txt",
    ],
)
def test_path_outside_the_root_gets_404(httpd: Httpd, path: str) -> None:
    found = ask(httpd, path)
    assert found.status == 404
    assert SECRET not in found.body
    assert "Location" not in found.fields


def test_special_file_is_not_opened(root: str, httpd: Httpd) -> None:
    # If the FIFO had been opened, this would not fail with ENXIO: no reader.
    assert ask(httpd, "/fifo").status == 404
    with pytest.raises(OSError, match="No such device or address"):
        os.open(f"{root}/fifo", os.O_WRONLY | os.O_NONBLOCK)


def test_dot_segments_get_404_also_with_hidden_files(root: str) -> None:
    shown = service(root, hidden=True, listing=True)
    assert ask(shown, "/.hidden").body == SECRET
    for path in ("/..", "/../", "/../secret.txt", "/%2e%2e/secret.txt", "/.", "/./"):
        assert ask(shown, path).status == 404, path


@pytest.mark.parametrize("name", ["\u200c.git", "\ufeff.x", "\u00ad\u2060.x", "\uff0egit", "sub/\u200b.x"])
def test_name_that_some_file_systems_treat_as_hidden_is_hidden(tmp_path: Path, name: str) -> None:
    """CVE-2014-9390: HFS+ ignores some characters, and opens .git."""
    root = make(tmp_path)
    (tmp_path / "www" / name).write_bytes(SECRET)
    (tmp_path / "www" / "empty" / "\u00e9.txt").write_bytes(b"open")
    httpd = service(root, listing=True, index="none")
    assert ask(httpd, "/" + quote(name)).status == 404
    assert quote(name.rpartition("/")[2]).encode() not in ask(httpd, "/sub/" if "/" in name else "/").body
    assert ask(httpd, "/empty/%C3%A9.txt").body == b"open"
    assert ask(service(root, hidden=True), "/" + quote(name)).body == SECRET


def test_link_to_the_root_is_followed_at_each_request(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(name)
    (tmp_path / "site").symlink_to("old")
    files = Files(str(tmp_path / "site"))
    for name in ("old", "new"):
        with files.folder([]) as folder:
            file = folder.open(b"index.html")
            assert file.read(0, 3) == name.encode()
            os.close(file.descriptor)
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").rename(tmp_path / "site")


def test_renaming_a_folder_does_not_redirect_a_walk_in_progress(tmp_path: Path) -> None:
    (tmp_path / "www" / "a").mkdir(parents=True)
    (tmp_path / "www" / "a" / "x").write_text("ours")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_bytes(SECRET)
    with Files(str(tmp_path / "www")).folder([b"a"]) as folder:
        (tmp_path / "www" / "a").rename(tmp_path / "www" / "b")
        (tmp_path / "www" / "a").symlink_to(tmp_path / "other")
        file = folder.open(b"x")
        assert file.read(0, 4) == b"ours"
        os.close(file.descriptor)
    with pytest.raises(Refused):
        Files(str(tmp_path / "www")).folder([b"a"])


def test_errors_of_open_get_their_statuses(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, status in ((13, 403), (24, 503), (2, 404)):

        def fail(*_: object, number: int = number, **__: object) -> int:
            raise OSError(number, "a secret path")

        with monkeypatch.context() as patched:
            patched.setattr("daemons.web.files.lookup.os.stat", fail)
            found = ask(service(root), "/text.txt")
        assert found.status == status
        assert b"a path" not in found.body
        assert ("Retry-After" in found.fields) == (status == 503)


#: Fragments of paths that try to leave the root.
OUT = ["..", ".", "/", "//", "%2e", "%2E%2e", "%2f", "%5c", "\\", "%00", "%25", "%c0%ae", "%ff", ";", "~", ":"]
NAMES = [
    "secret.txt",
    "wwwroot",
    "www",
    "out",
    "sub",
    "text.txt",
    ".git",
    "config",
    "link.txt",
    "fifo",
    "etc",
    "passwd",
]
PIECES = st.sampled_from([*OUT, *NAMES])

#: The contents of the folder above the root.
BESIDE = ["secret.txt", "users", "www", "wwwroot"]


@given(
    st.lists(
        PIECES | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=4),
        max_size=12,
    )
)
def test_no_path_leads_outside(root: str, httpd: Httpd, pieces: list[str]) -> None:
    path = "/" + "".join(pieces)
    found = ask(httpd, path)
    assert found.status in (200, 301, 403, 404)
    assert SECRET not in found.body
    files = Files(root, hidden=True)
    try:
        names = files.names(path.partition("?")[0])
        with files.folder(names[:-1]) as folder:
            file = folder.open(names[-1] or b"index.html")
    except (Refused, IsFolder):
        return
    try:
        where = os.readlink(f"/proc/self/fd/{file.descriptor}")
        assert where.startswith(os.path.realpath(root) + "/")
    finally:
        os.close(file.descriptor)


@given(st.lists(PIECES, max_size=12), st.sampled_from(["GET", "PUT", "DELETE", "POST"]))
def test_no_path_leads_around_a_password_or_out_of_the_documents(root: str, pieces: list[str], method: str) -> None:
    folder = os.path.dirname(root)
    users = os.path.join(folder, "users")
    Path(users).touch()
    closed = service(
        root,
        protected={"/sub": Realm("x", users), "/notes/www": Realm("x", users)},
        documents={"/notes": os.path.join(folder, "notes")},
    )
    path = "/notes/" + "".join(pieces) if method != "GET" else "/" + "".join(pieces)
    body = None if method == "GET" else b"x"
    found = ask(closed, path, method=method, body=body)
    assert found.status in (200, 201, 204, 301, 400, 401, 403, 404, 405)
    assert b"below" not in found.body
    assert not os.path.exists(os.path.join(folder, "notes", "www"))
    assert Path(folder, "secret.txt").read_bytes() == SECRET
    assert sorted(os.listdir(folder)) in (BESIDE, sorted([*BESIDE, "notes"]))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EILSEQ])
def test_name_that_the_file_system_refuses_is_not_found(
    root: str, httpd: Httpd, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """exFAT and NTFS refuse names that are not UTF-8, and so does ext4 with casefold."""

    def refuse(name: Any, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(name, bytes) and not name.isascii():
            raise OSError(number, os.strerror(number))
        return stat(name, *arguments, **keywords)

    stat = os.stat
    monkeypatch.setattr("os.stat", refuse)
    assert ask(httpd, "/%FF").status == 404


def test_file_on_which_a_file_server_has_a_lease_is_unavailable(tmp_path: Path) -> None:
    httpd = service(make(tmp_path))
    holder = """if True:
        import fcntl, os, signal, sys
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        descriptor = os.open(sys.argv[1], os.O_RDWR)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        print(flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", holder, str(tmp_path / "www" / "text.txt")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            pytest.skip("this file system has no leases")
        found = ask(httpd, "/text.txt")
        assert (found.status, found.fields["Retry-After"]) == (503, "1")
        process.stdin.close()
        process.wait()
    with talking(httpd) as conversation:
        assert send(conversation, request("/text.txt", "X: another head")).startswith(b"HTTP/1.1 200 OK")
