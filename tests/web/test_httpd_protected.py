"""Who is let in where a password is asked for.  Without sockets."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from threading import BoundedSemaphore, Event, Thread, current_thread, main_thread
from typing import Any

import pytest

from daemons.httpd import Httpd
from daemons.operating import loading
from daemons.operating.complaints import ConfigurationError
from daemons.serving.conversation import Conversation
from daemons.serving.service import Visitor
from daemons.web import passwords
from daemons.web.passwords import Cost, Users
from daemons.web.protection import REALM, Realm
from tests.operating.folder import Folder
from tests.web.site import Heard, ask, heard, make, parsed, request, service

#: Dear enough to test with.
CHEAP = Cost(2, 1, 1)

FAR = Visitor("192.0.2.7:4242", "192.0.2.7", False)
FAR_OVER_TLS = FAR._replace(secure=True)


def basic(name: str, password: str, scheme: str = "Basic") -> str:
    return f"Authorization: {scheme} {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


GOOD = basic("Arthur", "of the Britons:")


def write(path: Path, **users: str) -> None:
    lines = [f"{name}:{passwords.stored(password, CHEAP)}\n" for name, password in users.items()]
    new = path.with_name("new")
    new.write_text("# who may come\n\n" + "".join(lines), "utf-8")
    new.replace(path)


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


def refused(found: Heard) -> bool:
    if found.status == 401:
        assert found.fields["WWW-Authenticate"] == 'Basic realm="The vault", charset="UTF-8"'
        assert b"below" not in found.body
    return found.status == 401


def test_who_shows_a_password_is_let_in_and_nobody_else(users: Path) -> None:
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
    # What is beside is for all, and for caches.
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
        f"{GOOD}\r\n{GOOD}",
    ],
)
def test_who_is_not_let_in(users: Path, shown: str) -> None:
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
def test_no_spelling_of_a_path_leads_around(users: Path, path: str) -> None:
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
def test_what_is_protected_as_one_file_has_no_other_name(users: Path, prefix: str, path: str) -> None:
    root = make(users.parent)
    for name in ("plan.txt.de", "plan.txt.de.gz"):
        (users.parent / "www" / name).write_bytes(b"below")
    realms = {prefix: Realm("The vault", str(users)), "/": Realm("All", str(users))}
    httpd = service(root, protected=realms, languages=("en", "de"))
    assert refused(ask(httpd, path))
    assert ask(httpd, path, GOOD).status == 200
    assert ask(httpd, "/text.txt").fields["WWW-Authenticate"][:17] == 'Basic realm="All"'


def test_without_tls_no_password_is_asked_for_from_elsewhere(users: Path) -> None:
    httpd = protected(users)
    for shown in ((), (GOOD,)):
        found = ask(httpd, "/sub/", *shown, visitor=FAR)
        assert (found.status, "WWW-Authenticate" in found.fields) == (403, False)
        assert b"https://" in found.body
    assert ask(httpd, "/sub/", GOOD, visitor=FAR_OVER_TLS).status == 200
    assert refused(ask(httpd, "/sub/", visitor=FAR_OVER_TLS))
    # The same octets as he has just been answered to.
    assert ask(httpd, "/sub/", GOOD, visitor=FAR).status == 403
    assert ask(protected(users, insecure=True), "/sub/", GOOD, visitor=FAR).status == 200
    # Who has nobody to ask knows of nobody.
    conversation = Conversation(httpd)
    conversation.open()
    assert parsed(heard(conversation, request("/sub/", GOOD))).status == 403
    conversation.close()


def test_documents_are_written_by_who_may(users: Path) -> None:
    httpd = protected(users)
    assert ask(httpd, "/notes/x", method="PUT", body=b"no").status == 401
    assert ask(httpd, "/notes/x", GOOD, method="PUT", body=b"yes").status == 201
    found = ask(httpd, "/notes/x", GOOD)
    assert (found.body, found.fields["Cache-Control"]) == (b"yes", "private, no-cache")
    assert ask(httpd, "/notes/").status == 401


def test_a_changed_file_is_read_anew_and_a_wrong_one_lets_nobody_in(
    users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    httpd = protected(users)
    assert ask(httpd, "/sub/", GOOD).status == 200
    write(users, Arthur="another")
    assert refused(ask(httpd, "/sub/", GOOD))
    assert ask(httpd, "/sub/", basic("Arthur", "another")).status == 200
    users.write_text("Arthur:another\n")
    for _ in range(2):
        found = ask(httpd, "/sub/", basic("Arthur", "another"))
        assert (found.status, found.fields["Retry-After"]) == (503, "60")
    users.unlink()
    assert ask(httpd, "/sub/", GOOD).status == 503
    assert [record.getMessage() for record in caplog.records] == [
        f"{users}: line 1: not scrypt$N$R$P$SALT$HASH; `daemons password` writes it; nobody is let in",
        f"{users}: no such file or directory; nobody is let in",
    ]
    write(users, Arthur="of the Britons:")
    assert ask(httpd, "/sub/", GOOD).status == 200


def test_what_was_verified_is_remembered_and_costs_the_same_for_who_does_not_exist(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "REMEMBERED", 1)
    costs: list[Cost] = []
    digest = passwords._digest

    def counted(password: str, salt: bytes, cost: Cost) -> bytes:
        costs.append(cost)
        return digest(password, salt, cost)

    monkeypatch.setattr(passwords, "_digest", counted)
    known = Users(str(users))
    assert [known.admit("Arthur", "of the Britons:") for _ in range(3)] == [True] * 3
    assert costs == [CHEAP]
    assert [known.admit(name, "x") for name in ("Arthur", "Nobody", "Nobody")] == [False] * 3
    assert costs == [CHEAP] * 4
    assert known.admit("Zoë", "café")
    assert len(known._known) == 1
    assert b"Britons" not in b"".join(known._known)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Arthur", "line 1: not scrypt"),
        (":x", "line 1: not NAME:HASH"),
        ("A:scrypt$3$1$1$AA==$AA==", "line 1: scrypt N=3 R=1 P=1; N a power of 2"),
        # hashlib would refuse that, when somebody comes.
        ("A:scrypt$65536$1$1$AA==$AA==", "line 1: scrypt N=65536 R=1 P=1; N a power of 2 below 2 ** (16 * R)"),
        (
            "A:scrypt$16777216$8$1$AA==$AA==",
            "line 1: scrypt N=16777216 R=8 P=1; N a power of 2 below 2 ** (16 * R), and up to 256 MiB",
        ),
        ("A:scrypt$2$1$1$AA==$AA==", "line 1: a hash of 1 octets; 32 are expected"),
        ("A:scrypt$2$1$1$AA==$A", "line 1: a salt or hash that is not base64"),
        ("\n{0}\n{0}", "line 3: Arthur stands here twice"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "users"
    path.write_text(line.format(f"Arthur:{passwords.stored('x', CHEAP)}"))
    with pytest.raises(ValueError, match="^" + re.escape(reason)):
        passwords.read(path)


def test_a_realm_is_written_with_its_file(users: Path) -> None:
    for text in (f'"The vault" {users}', f"Vault {users}"):
        realm = REALM.parse(text)
        assert realm == Realm(text.split(" /")[0].strip('"'), str(users))
        assert REALM.parse(REALM.show(realm)) == realm
    for text in ('"The vault"', f'"a"b" {users}', "x", ""):
        with pytest.raises(ValueError, match="not a realm and a file"):
            REALM.parse(text)


def test_what_check_says_of_protected(folder: Folder) -> None:
    (folder.path / "www").mkdir()
    (folder.path / "octets").write_bytes(b"\xff")
    write(folder.path / "www" / "users", A="x")
    said = {
        "Vault conf/nosuch": " = Vault conf/nosuch: there is no file conf/nosuch; "
        "`daemons password conf/nosuch NAME` makes it",
        "Vault octets": " = Vault octets: octets: not UTF-8",
        "Vault conf": " = Vault conf: conf: is a directory",
        "Vault www/users": ": www/users would be served; write another file",
    }
    for value, reason in said.items():
        engine = "engine = threads"
        folder.write(
            "x", f"[daemon]\nservice = httpd\nport = 1\n{engine}\n[httpd]\nroot = www\n[protected]\n/a = {value}\n"
        )
        with pytest.raises(ConfigurationError) as caught:
            loading.request_handlers(folder.read())
        assert caught.value.complaints == [f"conf/x.ini [protected] /a{reason}"]
    write(folder.path / "users", A="x")
    folder.write(
        "x", "[daemon]\nservice = httpd\nport = 1\nengine = loop\n[httpd]\nroot = www\n[protected]\n/a = V users\n"
    )
    with pytest.raises(ConfigurationError, match="waits, as with \\[protected\\]; write engine = pool"):
        loading.request_handlers(folder.read())
    loading.request_handlers(folder.read("daemon.engine=pool"))


def test_a_reader_who_is_late_does_not_bring_back_who_has_been_taken_out(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread has read the old file, and keeps what it read while another is keeping what it reads of the new."""
    old = passwords.read(users)
    has_read, may_go_on = Event(), Event()

    def late(path: str) -> dict[str, passwords.Stored]:
        monkeypatch.setattr(passwords, "read", read)
        has_read.set()
        assert may_go_on.wait(10)
        return old

    class Slow(Users):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if has_read.is_set() and current_thread() is main_thread():
                may_go_on.set()
                thread.join()

    read = passwords.read
    kept = Slow(str(users))
    monkeypatch.setattr(passwords, "read", late)
    thread = Thread(target=kept.admit, args=("Arthur", ""))
    thread.start()
    assert has_read.wait(10)
    write(users, Robin="the brave")
    assert kept.admit("Robin", "the brave")
    assert not kept.admit("Arthur", "of the Britons:")


def test_a_name_with_a_line_end_of_another_alphabet_is_a_name_and_no_second_line(users: Path) -> None:
    kept = passwords.stored("x", CHEAP)
    users.write_text(f"# a\u2028b\nA\x85B\u2028C:{kept}\n", "utf-8")
    assert list(passwords.read(users)) == ["A\x85B\u2028C"]


def test_who_is_refused_is_not_told_to_the_log_as_who_was_let_in(users: Path) -> None:
    httpd = protected(users)
    ((asked),) = httpd.framing.decoder().decode(request("/sub/", GOOD))
    for visitor, user in ((FAR_OVER_TLS, "Arthur"), (FAR, "")):
        httpd.respond(asked, visitor)
        assert getattr(asked, "user") == user  # noqa: B009, to the framing's base it is bytes


def test_who_is_known_does_not_wait_for_who_guesses(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    httpd = protected(users)
    assert ask(httpd, "/sub/", GOOD).status == 200
    monkeypatch.setattr(passwords, "IN_ALL", BoundedSemaphore(1))
    with passwords.IN_ALL:
        found = ask(httpd, "/sub/", basic("Arthur", "guess"))
        assert (found.status, found.fields["Retry-After"]) == (503, "1")
        assert ask(httpd, "/sub/", GOOD).status == 200
    assert refused(ask(httpd, "/sub/", basic("Arthur", "guess")))
