"""Protection under bind mounts, and on file systems that ignore case."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemons.web.gateway.upstream_address import UPSTREAM
from daemons.web.site.redirects import Redirect
from tests.web.example_site import TEXT, ask, service
from tests.web.files.protected_site import SECRET, assert_protected, put, site
from tests.web.folding_fs import FoldingFileSystem, Tree
from tests.web.site.test_protection import GOOD

needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode != 0,
    reason="needs unshare(1), and leave to make namespaces",
)


def see_bind_mounts(folder: Path) -> None:
    """Check protection under bind mounts; runs in a mount namespace."""
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
    """Run a function of this file in a process with its own mount namespace."""
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
    """Check protection on a file system that ignores case; runs in a mount namespace."""
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
    """Check that a file system with an inode number for each spelling of a name is refused."""
    FoldingFileSystem(str(folder / "www"), {"private": {"plan.html": SECRET}}, stable=False)
    with pytest.raises(ValueError, match="private cannot be protected: its file system ignores case"):
        site(folder, "/private")
    service(str(folder / "www"))


@pytest.mark.root
@needs_namespaces
@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs access to /dev/fuse")
@pytest.mark.parametrize("function", ["see_folding", "see_unstable_folding"])
def test_protection_ignores_case_if_the_file_system_does(folder: Path, function: str) -> None:
    shutil.rmtree(folder / "www")
    (folder / "www").mkdir()
    run_in_a_namespace(function, folder)
