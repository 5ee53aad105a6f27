"""Protection applies to the opened file, under every name."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from daemons.web.gateway.upstream_address import UPSTREAM
from daemons.web.site.redirects import Redirect
from tests.web.example_site import TEXT, ask, service
from tests.web.files.protected_site import ROBIN, SECRET, assert_protected, put, site
from tests.web.site.test_protection import GOOD


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


def test_cached_responses_and_compressed_bodies_need_the_password(folder: Path) -> None:
    file = put(folder, "plan.html")
    os.link(file, folder / "www" / "PLAN.HTML")
    httpd = site(folder, "/plan.html")
    for path in ("/PLAN.HTML", "/plan.html"):
        for _ in range(2):
            assert ask(httpd, path, GOOD, "Accept-Encoding: gzip").status == 200
            assert ask(httpd, path, "Accept-Encoding: gzip").status == 401
            assert ask(httpd, "/text.txt", "Accept-Encoding: gzip").fields["Cache-Control"].startswith("max-age")


def test_protected_link_protects_its_target(folder: Path) -> None:
    put(folder, "releases/42/plan.html")
    (folder / "www" / "current").symlink_to("releases/42")
    (folder / "www" / "plan.html").symlink_to("short.txt")
    httpd = site(folder, "/current", "/plan.html")
    assert_protected(httpd, "/releases/42/plan.html")
    assert_protected(httpd, "/short.txt")
    assert ask(httpd, "/current/plan.html").status == 401
    assert ask(httpd, "/text.txt").status == 200


def test_nearest_protection_counts_under_every_name(folder: Path) -> None:
    put(folder, "private/plan.html")
    os.link(put(folder, "private/robin/tale.html"), folder / "www" / "tale.html")
    os.link(folder / "www" / "private" / "plan.html", folder / "www" / "private" / "robin" / "plan.html")
    httpd = site(folder, "/private", robins="/private/robin")
    assert_protected(httpd, "/private/plan.html")
    for path in ("/tale.html", "/private/robin/tale.html", "/private/robin/nothing"):
        assert ask(httpd, path, GOOD).status == ask(httpd, path).status == 401
        assert ask(httpd, path, ROBIN).status == (404 if "nothing" in path else 200)
    # Each user may read a shared file under its own path.
    assert ask(httpd, "/private/robin/plan.html", ROBIN).status == 200
    assert ask(httpd, "/private/plan.html", GOOD).status == 200


def test_missing_file_gets_404_after_the_password(folder: Path) -> None:
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


def test_listing_omits_names_that_need_another_password(folder: Path) -> None:
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
def test_ambiguous_paths_are_refused_above_a_protected_upstream_path(folder: Path, path: str) -> None:
    httpd = site(folder, "/app/admin", proxy={"/app": UPSTREAM.parse("127.0.0.1:1")}, upstream_timeout=1.0)
    assert ask(httpd, path, GOOD).status in (400, 404)
    assert ask(httpd, "/app/page").status == 502
    # Without a protected path below the prefix, such paths are forwarded.
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
def test_equivalent_spellings_of_a_protected_path_need_its_password(folder: Path, name: str) -> None:
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


def test_shadowed_file_is_not_served_under_another_name(folder: Path) -> None:
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
