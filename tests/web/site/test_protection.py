"""Basic authentication of protected paths.  Without sockets."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, cast

import pytest

from daemons.accounts import hashes
from daemons.accounts.throttle import NAMED
from daemons.framings.http import Request
from daemons.httpd import Httpd
from daemons.operating.loading.targets import target_of
from daemons.operating.logging.request_log import RequestLog
from daemons.serving.conversation.peer import Peer
from daemons.settings.complaints import ConfigurationError
from daemons.web.site.protection import REALM, Realm
from tests.accounts.files import write_lines, write_users
from tests.operating.folder import Folder
from tests.web.example_site import ParsedResponse, ask, make, request, service

write = write_users

FAR = Peer("192.0.2.7:4242", "192.0.2.7", False)
FAR_OVER_TLS = Peer(FAR.address, FAR.host, True)


def basic(name: str, password: str, scheme: str = "Basic") -> str:
    return f"Authorization: {scheme} {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


GOOD = basic("Arthur", "of the Britons:")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    write(tmp_path / "users", Arthur="of the Britons:", Zoë="café")
    return tmp_path / "users"


def protected(users: Path, **options: Any) -> Httpd:
    root = users.parent / "www"
    if not root.exists():
        make(users.parent)
    realms = {"/sub": Realm("The vault", str(users)), "/notes": Realm("Notes", str(users))}
    return service(str(root), protected=realms, documents={"/notes": str(users.parent / "notes")}, **options)


def refused(found: ParsedResponse) -> bool:
    if found.status == 401:
        assert found.fields["WWW-Authenticate"] == 'Basic realm="The vault", charset="UTF-8"'
        assert b"below" not in found.body
    return found.status == 401


def test_protected_file_needs_a_password(users: Path) -> None:
    httpd = protected(users)
    assert refused(ask(httpd, "/sub/"))
    assert ask(httpd, "/sub/", method="HEAD").status == 401
    for _ in range(2):
        found = ask(httpd, "/sub/", GOOD)
        assert (found.status, found.body) == (200, b"below")
        assert (found.fields["Cache-Control"], "Expires" in found.fields) == ("private, no-cache", False)
        assert refused(ask(httpd, "/sub/"))
    assert ask(httpd, "/sub/", GOOD, f"If-None-Match: {found.fields['ETag']}").fields["Cache-Control"][:7] == "private"
    assert ask(httpd, "/sub", GOOD).fields["Location"] == "/sub/"
    # Unprotected files are public and cacheable.
    assert ask(httpd, "/text.txt").fields["Cache-Control"].startswith("max-age")
    assert ask(httpd, "/sub/", basic("Zoe\u0308", "cafe\u0301", "bASIC")).status == 200


@pytest.mark.parametrize(
    "shown",
    [
        basic("Arthur", "of the britons:"),
        basic("Arthur", ""),
        basic("arthur", "of the Britons:"),
        basic("Robin", "of the Britons:"),
        basic("", ""),
        "Authorization: Basic QXJ0aHVy",  # no colon
        "Authorization: Basic ////",  # not UTF-8
        "Authorization: Basic a===",
        "Authorization: Basic",
        "Authorization: Bearer x",
    ],
)
def test_invalid_credentials_get_401(users: Path, shown: str) -> None:
    assert refused(ask(protected(users), "/sub/", shown))


@pytest.mark.parametrize(
    "path",
    [
        "/sub",
        "/sub/",
        "/%73ub/",
        "/s%75b/index.html",
        "/sub/?x",
        "/sub/nothing",
        "http://localhost/sub/",
        "/sub%2findex.html",
    ],
)
def test_every_spelling_of_a_protected_path_needs_the_password(users: Path, path: str) -> None:
    found = ask(protected(users), path)
    assert refused(found) or found.status == 404
    for other in ("//sub/", "/./sub/", "/x/../sub/", "/sub//", "/SUB/", "/sub;x/"):
        assert ask(protected(users), other).status == 404


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        ("/ready.css", "/ready.css.gz"),
        ("/plan.txt", "/plan.txt.de"),
        ("/plan.txt", "/plan.txt.de.gz"),
        ("/index.html", "/"),
        ("/sub/index.html", "/sub/"),
    ],
)
def test_every_spelling_of_a_protected_file_needs_the_password(users: Path, prefix: str, path: str) -> None:
    root = make(users.parent)
    for name in ("plan.txt.de", "plan.txt.de.gz"):
        (users.parent / "www" / name).write_bytes(b"below")
    realms = {prefix: Realm("The vault", str(users)), "/": Realm("All", str(users))}
    httpd = service(root, protected=realms, languages=("en", "de"))
    assert refused(ask(httpd, path))
    assert ask(httpd, path, GOOD).status == 200
    assert ask(httpd, "/text.txt").fields["WWW-Authenticate"][:17] == 'Basic realm="All"'


def test_remote_request_without_tls_gets_403(users: Path) -> None:
    httpd = protected(users)
    for shown in ((), (GOOD,)):
        found = ask(httpd, "/sub/", *shown, peer=FAR)
        assert (found.status, "WWW-Authenticate" in found.fields) == (403, False)
        assert b"https://" in found.body
    assert ask(httpd, "/sub/", GOOD, peer=FAR_OVER_TLS).status == 200
    assert refused(ask(httpd, "/sub/", peer=FAR_OVER_TLS))
    # The same bytes as in the previous request.
    assert ask(httpd, "/sub/", GOOD, peer=FAR).status == 403
    assert ask(protected(users, insecure=True), "/sub/", GOOD, peer=FAR).status == 200


def test_protected_documents_need_a_password(users: Path) -> None:
    httpd = protected(users)
    assert ask(httpd, "/notes/x", method="PUT", body=b"no").status == 401
    assert ask(httpd, "/notes/x", GOOD, method="PUT", body=b"yes").status == 201
    found = ask(httpd, "/notes/x", GOOD)
    assert (found.body, found.fields["Cache-Control"]) == (b"yes", "private, no-cache")
    assert ask(httpd, "/notes/").status == 401


def test_changed_users_file_is_reloaded_and_an_invalid_one_denies_all(
    users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    httpd = protected(users)
    assert ask(httpd, "/sub/", GOOD).status == 200
    write(users, Arthur="another")
    assert refused(ask(httpd, "/sub/", GOOD))
    assert ask(httpd, "/sub/", basic("Arthur", "another")).status == 200
    write_lines(users, "Arthur:another")
    for _ in range(2):
        found = ask(httpd, "/sub/", basic("Arthur", "another"))
        assert (found.status, found.fields["Retry-After"]) == (503, "60")
    users.unlink()
    assert ask(httpd, "/sub/", GOOD).status == 503
    assert [record.getMessage() for record in caplog.records] == [
        f"users file unreadable, all requests denied: {users}: line 1: not a hash; expected scrypt$N$R$P$SALT$HASH or "
        "sha256$SALT$HASH, as written by `daemons password`",
        f"users file unreadable, all requests denied: {users}: no such file; create it with "
        f"`daemons password {users} NAME`",
    ]
    write(users, Arthur="of the Britons:")
    assert ask(httpd, "/sub/", GOOD).status == 200


def test_verified_password_is_cached_and_unknown_users_cost_the_same(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = 0
    scrypt = hashes._scrypt

    def counted(*arguments: Any) -> bytes:
        nonlocal computed
        computed += 1
        return scrypt(*arguments)

    monkeypatch.setattr(hashes, "_scrypt", counted)
    httpd = protected(users)
    assert [ask(httpd, "/sub/", GOOD).status for _ in range(3)] == [200] * 3
    assert computed == 1
    for name in ("Arthur", "Unknown"):
        assert refused(ask(httpd, "/sub/", basic(name, "x")))
    assert computed == 3


def test_realm_setting_is_shown_with_its_file(users: Path) -> None:
    for text in (f'"The vault" {users}', f"Vault {users}"):
        realm = REALM.parse(text)
        assert realm == Realm(text.split(" /")[0].strip('"'), str(users))
        assert REALM.parse(REALM.show(realm)) == realm
    for text in ('"The vault"', f'"a"b" {users}', "x", ""):
        with pytest.raises(ValueError, match="not a realm and a file"):
            REALM.parse(text)


def test_invalid_protected_setting_is_refused(folder: Folder) -> None:
    (folder.path / "www").mkdir()
    (folder.path / "octets").write_bytes(b"\xff")
    (folder.path / "octets").chmod(0o600)
    write(folder.path / "www" / "users", A="x")
    complaints = {
        "Vault conf/nosuch": " = Vault conf/nosuch: conf/nosuch: no such file; "
        "create it with `daemons password conf/nosuch NAME`",
        "Vault octets": " = Vault octets: octets: not UTF-8",
        "Vault conf": " = Vault conf: conf: not a regular file",
        "Vault www/users": ": www/users would be served; move it out of the root and of [documents]",
    }
    for value, reason in complaints.items():
        engine = "engine = threads"
        folder.write(
            "x", f"[daemon]\nservice = httpd\nport = 1\n{engine}\n[httpd]\nroot = www\n[protected]\n/a = {value}\n"
        )
        with pytest.raises(ConfigurationError) as caught:
            target_of(folder.read()).request_handlers()
        assert caught.value.complaints == [f"conf/x.ini [protected] /a{reason}"]
    write(folder.path / "users", A="x")
    folder.write(
        "x", "[daemon]\nservice = httpd\nport = 1\nengine = loop\n[httpd]\nroot = www\n[protected]\n/a = V users\n"
    )
    with pytest.raises(ConfigurationError, match="blocks: \\[protected\\]; write engine = pool"):
        target_of(folder.read()).request_handlers()
    target_of(folder.read("daemon.engine=pool")).request_handlers()


@pytest.mark.parametrize("path", ["/sub/", "/notes/", "/"])
def test_requests_with_one_head_are_logged_with_their_own_user(path: str, users: Path) -> None:
    """Requests with the same head share one object, also between threads, so it must not be modified."""
    httpd = protected(users)
    httpd.request_log = RequestLog("httpd", "common")
    (asked,) = cast(list[Request], httpd.framing.decoder().decode(request(path, GOOD)))
    before = vars(asked).copy()
    for peer, user in ((FAR_OVER_TLS, "Arthur"), (FAR, "-"), (FAR_OVER_TLS, "Arthur")):
        _, entry = httpd._respond(asked, peer)
        assert entry is not None
        assert entry[0] == f" - {'-' if path == '/' else user} ["
        assert vars(asked) == before


def test_known_user_does_not_wait_for_guesses(users: Path) -> None:
    httpd = protected(users)
    assert ask(httpd, "/sub/", GOOD).status == 200
    found = [ask(httpd, "/sub/", basic("Arthur", str(number))) for number in range(NAMED.burst + 1)]
    assert [each.status for each in found] == [401] * NAMED.burst + [503]
    assert 1 <= int(found[-1].fields["Retry-After"]) <= NAMED.interval
    assert ask(httpd, "/sub/", GOOD).status == 200


def test_credentials_longer_than_any_users_are_not_decoded(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    httpd = protected(users)
    assert ask(httpd, "/sub/", basic("x" * 64, "x" * 256)).status == 401
    monkeypatch.setattr("base64.b64decode", lambda *arguments, **more: pytest.fail("decoded"))
    assert ask(httpd, "/sub/", basic("Arthur", "\u0301" * 4000)).status == 401
