"""Protection holds under every name of a file: the decision is about the file that is opened."""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from daemons.httpd import Httpd
from daemons.web.files import hard_links
from daemons.web.gateway.upstream_address import UPSTREAM
from daemons.web.site.gate import Gate
from daemons.web.site.protection import Realm
from daemons.web.site.redirects import Redirect
from tests.web.example_site import TEXT, WRITTEN, ask, make, service
from tests.web.folding_fs import FoldingFileSystem, Tree
from tests.web.site.test_protection import GOOD, basic, write

SECRET = b"the plan of the castle" * 20
needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode != 0,
    reason="needs unshare(1), and leave to make namespaces",
)

ROBIN = basic("Robin", "the brave")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site with users beside it: Arthur's file, and Robin's."""
    make(tmp_path)
    write(tmp_path / "users", Arthur="of the Britons:")
    write(tmp_path / "others", Robin="the brave")
    return tmp_path


def put(folder: Path, path: str, content: bytes = SECRET) -> Path:
    file = folder / "www" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (WRITTEN, WRITTEN))
    return file


def site(folder: Path, *paths: str, robins: str = "", **options: Any) -> Httpd:
    """One in which `paths` are Arthur's and `robins` is Robin's."""
    realms = {path: Realm("The vault", str(folder / "users")) for path in paths}
    if robins:
        realms[robins] = Realm("Robin's", str(folder / "others"))
    return service(str(folder / "www"), protected=realms, **options)


def assert_protected(httpd: Httpd, path: str, *fields: str) -> None:
    """No request for `path` is answered with anything of the file without the password, whatever was asked before."""
    tagged = ask(httpd, path, GOOD, *fields)
    assert (tagged.status, tagged.fields["Cache-Control"]) == (200, "private, no-cache"), path
    conditions = (
        ["Range: bytes=0-3"],
        ["If-None-Match: *"],
        [f"If-None-Match: {tagged.fields.get('ETag')}"],
        ["If-Match: x"],
        ["If-Modified-Since: Sun, 12 Oct 2035 08:00:00 GMT"],
    )
    for method in ("GET", "HEAD"):
        for more in ([], *conditions):
            found = ask(httpd, path, *fields, *more, method=method)
            assert (found.status, "ETag" in found.fields) == (401, False), (path, method, more)
            assert SECRET[:8] not in found.body
    assert ask(httpd, path, basic("Arthur", "guess"), *fields).status == 401
    for method in ("PUT", "DELETE", "POST", "OPTIONS"):
        assert ask(httpd, path, *fields, method=method).status in (204, 401, 405)


def test_chosen_language_variant_needs_its_password(folder: Path) -> None:
    for tag in ("en", "fr"):
        put(folder, f"var.html.{tag}", SECRET if tag == "en" else b"public")
    put(folder, "sub/index.html.en")
    httpd = site(folder, "/var.html.en", "/sub/index.html.en", languages=("en", "fr"))
    assert_protected(httpd, "/var.html")
    assert_protected(httpd, "/var.html", "Accept-Language: en, fr;q=0.5")
    assert ask(httpd, "/var.html", "Accept-Language: fr").body == b"public"
    assert_protected(httpd, "/sub/")


def test_precompressed_variant_needs_its_password(folder: Path) -> None:
    put(folder, "z.txt", b"public" * 100)
    put(folder, "z.txt.gz", gzip.compress(SECRET))
    put(folder, "z.txt.en", b"public" * 100)
    put(folder, "z.txt.en.gz", gzip.compress(SECRET))
    for languages in ((), ("en",)):
        httpd = site(folder, "/z.txt.gz", "/z.txt.en.gz", languages=languages)
        assert_protected(httpd, "/z.txt", "Accept-Encoding: gzip")
        assert ask(httpd, "/z.txt").body == b"public" * 100
        assert_protected(httpd, "/z.txt", "Accept-Encoding: gzip")


def test_remembered_answers_and_compressed_bodies_are_for_those_who_may_see_them(folder: Path) -> None:
    file = put(folder, "plan.html")
    os.link(file, folder / "www" / "PLAN.HTML")
    httpd = site(folder, "/plan.html")
    for path in ("/PLAN.HTML", "/plan.html"):
        for _ in range(2):
            assert ask(httpd, path, GOOD, "Accept-Encoding: gzip").status == 200
            assert ask(httpd, path, "Accept-Encoding: gzip").status == 401
            assert ask(httpd, "/text.txt", "Accept-Encoding: gzip").fields["Cache-Control"].startswith("max-age")


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


def test_hard_link_that_is_made_later_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_links, "FRESH", 0.0)
    monkeypatch.setattr(hard_links, "FACTOR", 0)
    os.link(put(folder, "public.txt", TEXT), folder / "www" / "public2.txt")
    file = put(folder, "private/plan.html")
    httpd = site(folder, "/private")
    assert ask(httpd, "/public.txt").status == 200
    os.link(file, folder / "www" / "copy.html")
    assert_protected(httpd, "/copy.html")


def test_beyond_the_limit_of_the_index_hard_links_are_refused(
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


def test_protected_link_protects_what_it_leads_to(folder: Path) -> None:
    put(folder, "releases/42/plan.html")
    (folder / "www" / "current").symlink_to("releases/42")
    (folder / "www" / "plan.html").symlink_to("short.txt")
    httpd = site(folder, "/current", "/plan.html")
    assert_protected(httpd, "/releases/42/plan.html")
    assert_protected(httpd, "/short.txt")
    assert ask(httpd, "/current/plan.html").status == 401
    assert ask(httpd, "/text.txt").status == 200


def test_of_nested_protections_the_nearest_counts_under_every_name(folder: Path) -> None:
    put(folder, "private/plan.html")
    os.link(put(folder, "private/robin/tale.html"), folder / "www" / "tale.html")
    os.link(folder / "www" / "private" / "plan.html", folder / "www" / "private" / "robin" / "plan.html")
    httpd = site(folder, "/private", robins="/private/robin")
    assert_protected(httpd, "/private/plan.html")
    for path in ("/tale.html", "/private/robin/tale.html", "/private/robin/nothing"):
        assert ask(httpd, path, GOOD).status == ask(httpd, path).status == 401
        assert ask(httpd, path, ROBIN).status == (404 if "nothing" in path else 200)
    # Each may read a file that both have, under the name of his own.
    assert ask(httpd, "/private/robin/plan.html", ROBIN).status == 200
    assert ask(httpd, "/private/plan.html", GOOD).status == 200


def test_password_of_a_path_without_a_file_is_enough_to_be_told_so(folder: Path) -> None:
    httpd = site(folder, "/", robins="/sub/ghost")
    assert [ask(httpd, "/sub/ghost", shown).status for shown in (ROBIN, GOOD)] == [404, 401]


def test_unreadable_file_needs_its_password_before_403(folder: Path) -> None:
    file = put(folder, "plan.html")
    os.link(file, folder / "www" / "PLAN.HTML")
    os.mkfifo(folder / "www" / "pipe")
    os.link(folder / "www" / "pipe", folder / "www" / "PIPE")
    file.chmod(0)
    httpd = site(folder, "/plan.html", "/pipe")
    for path, status in (("/PLAN.HTML", 200 if os.geteuid() == 0 else 403), ("/PIPE", 404)):
        assert ask(httpd, path).status == 401
        assert ask(httpd, path, GOOD).status == status


def test_list_leaves_out_what_needs_another_password(folder: Path) -> None:
    for path in ("all/open.txt", "all/plan.txt", "all/vault/x.txt", "all/vault/inner.txt", "elsewhere/link.txt"):
        put(folder, path)
    os.link(folder / "www" / "elsewhere" / "link.txt", folder / "www" / "all" / "link.txt")
    httpd = site(folder, "/all/plan.txt", "/all/vault", "/elsewhere", robins="/all/vault/inner.txt", listing=True)
    found = ask(httpd, "/all/").body
    assert b"open.txt" in found
    assert not [name for name in (b"plan.txt", b"vault", b"link.txt") if name in found]
    found = ask(httpd, "/all/vault/", GOOD).body
    assert b"x.txt" in found
    assert b"inner.txt" not in found


def test_site_that_is_replaced_as_a_whole_is_protected_from_then_on(folder: Path) -> None:
    """By renaming a link: what is known of the links in the old root says nothing of those in the new one."""
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


def test_request_in_whose_midst_the_site_is_replaced_is_to_be_repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    """Without the index of their files, a name elsewhere may be that of any of them."""
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
    assert ask(httpd, "/short.txt").status == 200  # by which the mount points are known
    with descriptors_left(2):
        assert ask(httpd, "/link.html").status == 403
    if os.geteuid() == 0:
        return  # who reads all directories
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
    """All descriptors but `count` are in use."""
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


@pytest.mark.parametrize(
    "path",
    [
        *("/app/admin;x", "/app;x/admin", "/app/%2561dmin", "/app/admin%3bx", "/app/admin%3Fx", "/app/admin%23x"),
        *(
            "/app/admin%C2%85",
            "/app/admin%09",
            "/app/x;/../admin",
            "/app/..;/admin",
            "/app//admin",
            "/app/./admin",
            "/app/%2e/admin",
        ),
        *("/app/x%EF%BC%8Fadmin", "/app/%EF%BC%8E%EF%BC%8E/admin", "/app/admin%EF%BC%9Bx", "/app/%c1%a1dmin"),
        *("/app/x%5c..%5cadmin", "/app/x%2f..%2fadmin", "/app/admin%00", "/app/" + "%CC%81" * 600 + "admin"),
    ],
)
def test_paths_that_a_server_behind_may_read_otherwise_are_refused(folder: Path, path: str) -> None:
    httpd = site(folder, "/app/admin", proxy={"/app": UPSTREAM.parse("127.0.0.1:1")}, upstream_timeout=1.0)
    assert ask(httpd, path, GOOD).status in (400, 404)
    assert ask(httpd, "/app/page").status == 502
    # Without a password below it, such paths are passed on.
    assert ask(site(folder, "/sub", proxy={"/app": UPSTREAM.parse("127.0.0.1:1")}), "/app/admin;x").status == 502


@pytest.mark.parametrize(
    "name",
    [
        "Admin",
        "ADMIN",
        "%61dmin",
        "admin.",
        "admin%20",
        "%20admin",
        "admin%C2%AD",
        "%EF%BD%81dmin",
        "admi%E2%80%8Dn/x",
        "aDmin/",
        *("adm%C4%B1n", "ADM%C4%B0N", "adm%EF%B8%8Fin", "adm%CD%8Fin", "ad%E3%85%A4min", "adm%F3%A0%84%80in"),
        *("admin%E2%80%A8", "admin%E1%9A%80.", "%E3%80%80admin", "admin%C2%A0"),
    ],
)
def test_other_cases_and_forms_of_a_protected_path_need_its_password(folder: Path, name: str) -> None:
    httpd = site(folder, "/app/admin", "/notes/admin", proxy={"/app": UPSTREAM.parse("127.0.0.1:1")})
    assert ask(httpd, f"/app/{name}").status == 401
    assert ask(httpd, f"/app/{name}", GOOD).status == 502


def test_document_is_protected_under_every_name(folder: Path) -> None:
    store = folder / "notes"
    httpd = site(folder, "/notes/plan.txt", documents={"/notes": str(store)})
    assert ask(httpd, "/notes/plan.txt", GOOD, method="PUT", body=SECRET).status == 201
    assert ask(httpd, "/notes/open.txt", method="PUT", body=TEXT).status == 201
    os.link(store / "plan.txt", store / "PLAN~1.TXT")
    for name in ("plan.txt", "PLAN.TXT", "Plan.txt", "plan.txt.", "PLAN~1.TXT"):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            assert ask(httpd, f"/notes/{name}", method=method, body=b"x" if method == "PUT" else None).status == 401
    assert (store / "plan.txt").read_bytes() == SECRET
    assert ask(httpd, "/notes/PLAN~1.TXT", GOOD).body == SECRET
    listed = ask(httpd, "/notes/").body
    assert b"open.txt" in listed
    assert b"plan" not in listed.lower()
    assert ask(httpd, "/notes/open.txt").body == TEXT


def test_no_other_name_leads_to_a_file_that_is_shadowed(folder: Path) -> None:
    for path in ("gone.html", "index.html"):
        put(folder, path)
        os.link(folder / "www" / path, folder / "www" / path.upper())
    put(folder, "new/page.html")
    (folder / "www" / "old").symlink_to("new")
    httpd = service(
        str(folder / "www"),
        redirects={
            "/gone.html": Redirect(410, ""),
            "/index.html": Redirect(301, "/"),
            "/old/*": Redirect(301, "/new/*"),
        },
        proxy={"/app": UPSTREAM.parse("127.0.0.1:1")},
    )
    assert [ask(httpd, path).status for path in ("/GONE.HTML", "/INDEX.HTML", "/gone.html")] == [404, 404, 410]
    assert [ask(httpd, path).status for path in ("/", "/new/page.html", "/text.txt")] == [200, 200, 200]


def see_bind_mounts(folder: Path) -> None:
    """The part of the next test that sees bind mounts: a directory under another name, as where case is ignored."""
    for source, target in (
        ("private", "PRIVATE"),
        ("private/deep", "public/DEEP"),
        ("private/deep/plan.html", "public/plan.html"),
        ("app", "APP"),
    ):
        subprocess.run(["mount", "--bind", folder / "www" / source, folder / "www" / target], check=True)
    httpd = site(folder, "/private", proxy={"/app": UPSTREAM.parse("127.0.0.1:1")}, listing=True)
    for path in ("/PRIVATE/deep/plan.html", "/public/DEEP/plan.html", "/public/plan.html"):
        assert_protected(httpd, path)
    for path in ("", "/", "/nothing", "/no/thing"):
        for above in ("/PRIVATE", "/public/DEEP", "/private"):
            assert ask(httpd, above + path).status == 401, above + path
    assert ask(httpd, "/PRIVATE/nothing", GOOD).status == 404
    assert b"PRIVATE" not in ask(site(folder, "/private", listing=True, index="none"), "/").body
    assert ask(httpd, "/APP/settings.py").status == 404
    assert ask(httpd, "/public/open.txt").status == 200
    assert ask(httpd, "/no/thing").status == 404


def run_in_a_namespace(function: str, folder: Path) -> None:
    """Run a function of this file in a process with mounts of its own."""
    flags = "-m" if os.geteuid() == 0 else "-Urm"
    code = f"from pathlib import Path; from {__name__} import {function}; {function}(Path({str(folder)!r}))"
    done = subprocess.run(
        ["unshare", flags, sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@needs_namespaces
def test_directory_is_protected_under_every_name(folder: Path) -> None:
    for path in ("private/deep/plan.html", "public/plan.html", "public/DEEP/x", "public/open.txt", "app/settings.py"):
        put(folder, path)
    for name in ("PRIVATE", "APP"):
        (folder / "www" / name).mkdir()
    run_in_a_namespace("see_bind_mounts", folder)


def see_folding(folder: Path) -> None:
    """The part of the next test that sees a file system that ignores case."""
    tree: Tree = {
        "private": {"plan.html": SECRET, "deep": {"plan.html": SECRET}},
        "plan.html": SECRET,
        "app": {"settings.py": SECRET},
        "old": {"page.html": SECRET},
        "docs": {"page.html": TEXT},
        "text.txt": TEXT,
    }
    FoldingFileSystem(str(folder / "www"), tree, stable=True)
    httpd = site(
        folder,
        "/private",
        "/plan.html",
        proxy={"/app": UPSTREAM.parse("127.0.0.1:1")},
        redirects={
            "/old/*": Redirect(301, "/new/*"),
            "/Docs/*": Redirect(301, "/docs/*"),
            "/TEXT.TXT": Redirect(301, "/text.txt"),
        },
        listing=True,
    )
    assert ask(httpd, "/docs/page.html").body == TEXT
    assert [ask(httpd, path).status for path in ("/Docs/page.html", "/TEXT.TXT", "/DOCS/page.html")] == [301, 301, 200]
    for path in ("/private/plan.html", "/PRIVATE/plan.html", "/Private/DEEP/Plan.HTML", "/PLAN.html", "/plan.HTML"):
        assert_protected(httpd, path)
    for path in ("/PRIVATE", "/PRIVATE/", "/Private/nothing", "/PRIVATE/deep/", "/privatE/no/thing"):
        assert ask(httpd, path).status == 401, path
    for path in ("/APP/settings.py", "/OLD/page.html", "/Old/"):
        assert ask(httpd, path).status == 404, path
    assert ask(httpd, "/TEXT.txt").body == TEXT
    assert b"private" not in ask(httpd, "/").body


def see_unstable_folding(folder: Path) -> None:
    """The same where a file has an inode number for each spelling of its name."""
    FoldingFileSystem(str(folder / "www"), {"private": {"plan.html": SECRET}}, stable=False)
    with pytest.raises(ValueError, match="private cannot be protected: its file system ignores case"):
        site(folder, "/private")
    service(str(folder / "www"))


@pytest.mark.root
@needs_namespaces
@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs access to /dev/fuse")
@pytest.mark.parametrize("function", ["see_folding", "see_unstable_folding"])
def test_case_makes_no_difference_where_the_file_system_ignores_it(folder: Path, function: str) -> None:
    shutil.rmtree(folder / "www")
    (folder / "www").mkdir()
    run_in_a_namespace(function, folder)
