"""Documents: create, replace, delete, and conditional writes.  Without sockets."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from daemons.httpd import Httpd
from daemons.operating.loading.targets import target_of
from daemons.serving.conversation.endings import Ending
from daemons.settings.complaints import ConfigurationError
from daemons.web.site import store
from daemons.web.site.protection import Realm
from daemons.web.site.store import Entry, Store
from tests.operating.folder import Folder
from tests.serving.peers import eventually
from tests.web.example_site import ask, make, parsed, request, send, service, talking
from tests.web.site.test_protection import write


@pytest.fixture
def httpd(tmp_path: Path) -> Httpd:
    return documents(tmp_path, make(tmp_path))


def documents(folder: Path, root: str, **options: Any) -> Httpd:
    return service(root, documents={"/notes": str(folder / "notes")}, **options)


def test_document_is_created_read_replaced_and_deleted(httpd: Httpd, tmp_path: Path) -> None:
    made = ask(httpd, "/notes/a.txt", method="PUT", body=b"one")
    assert (made.status, made.fields["Location"], made.body) == (201, "/notes/a.txt", b"")
    # In the same second, and with the same head as below.
    for text in (b"two", b"six"):
        before = ask(httpd, "/notes/a.txt")
        replaced = ask(httpd, "/notes/a.txt", method="PUT", body=text)
        assert (replaced.status, replaced.body) == (204, b"")
        found = ask(httpd, "/notes/a.txt", "Accept-Encoding: gzip")
        assert (found.body, found.fields["ETag"]) == (text, replaced.fields["ETag"])
        assert found.fields["ETag"] != before.fields["ETag"]
    assert (found.fields["Content-Type"], found.fields["Cache-Control"]) == ("text/plain; charset=utf-8", "no-cache")
    assert (found.fields["Content-Security-Policy"], "Vary" in found.fields) == ("sandbox", False)
    assert ask(httpd, "/notes/a.txt", f"If-None-Match: {found.fields['ETag']}").status == 304
    assert ask(httpd, "/notes/a.txt", "Range: bytes=1-1").body == b"i"
    assert ask(httpd, "/notes/a.txt", method="HEAD").fields["Content-Length"] == "3"
    assert os.listdir(tmp_path / "notes") == ["a.txt"]
    assert ask(httpd, "/notes/a.txt", method="DELETE").status == 204
    assert [ask(httpd, "/notes/a.txt", method=each).status for each in ("GET", "DELETE")] == [404, 404]


def test_collection_lists_documents_and_names_new_ones(httpd: Httpd) -> None:
    assert json.loads(ask(httpd, "/notes/").body) == []
    made = ask(httpd, "/notes", "Content-Type: application/json; a=b", method="POST", body=b"{}")
    assert made.status == 201
    where = made.fields["Location"]
    assert where.startswith("/notes/")
    assert json.loads(made.body)["href"] == where
    found = ask(httpd, where)
    assert (found.body, found.fields["Content-Type"]) == (b"{}", "application/json")
    other = ask(httpd, "/notes/", "Content-Type: x/y", method="POST", body=b"").fields["Location"]
    assert other.endswith(".bin")
    listed = ask(httpd, "/notes")
    assert listed.fields["Content-Type"] == "application/json"
    assert {each["href"]: (each["size"], each["etag"]) for each in json.loads(listed.body)} == {
        where: (2, found.fields["ETag"]),
        other: (0, ask(httpd, other).fields["ETag"]),
    }


@pytest.mark.parametrize(
    ("method", "path", "field", "status"),
    [
        ("PUT", "/notes/.hidden", "", 400),
        ("PUT", "/notes/a/b", "", 400),
        ("PUT", "/notes/a%2fb", "", 405),
        ("PUT", "/notes/%2e%2e", "", 405),
        ("PUT", "/notes/../x", "", 405),
        ("PUT", "/notes/x%00", "", 405),
        ("PUT", "/notes/%C3%BC", "", 400),
        ("PUT", "/notes/" + "x" * 101, "", 400),
        ("PUT", "/notes/x", "Content-Range: bytes 0-0/2", 400),
        ("PUT", "/notes/x", "Content-Encoding: gzip", 415),
        ("PUT", "/notes/x", "Origin: http://evil.example", 403),
        ("PUT", "/notes/x", "Origin: null", 403),
        ("PUT", "/notes/x", "Origin: http://[", 403),
        ("PUT", "/notes/x", "Origin: http://localhost", 201),
        ("PUT", "/notes/x", "If-Match: *", 412),
        ("PUT", "/notes/x", 'If-Match: "1-1"', 412),
        ("PUT", "/notes/x", "If-None-Match: *", 201),
        ("PUT", "/notes/there.txt", "If-None-Match: *", 412),
        ("PUT", "/notes/there.txt", "If-Match: *", 204),
        ("PUT", "/notes/there.txt", 'If-Match: "1-1"', 412),
        ("PUT", "/notes/there.txt", "If-Unmodified-Since: Sun, 12 Oct 2025 08:00:00 GMT", 412),
        ("PUT", "/notes/there.txt", "If-Modified-Since: Sun, 12 Oct 2125 08:00:00 GMT", 204),
        ("DELETE", "/notes/there.txt", 'If-Match: "1-1"', 412),
        ("DELETE", "/notes/folder", "", 403),
        ("DELETE", "/notes/.incoming", "", 404),
        ("DELETE", "/notes/", "", 405),
        ("GET", "/notes/link", "", 404),
        ("GET", "/notes/folder", "", 404),
        ("GET", "/notes/fifo", "", 404),
        ("PUT", "/notes/link", "", 403),
        ("POST", "/notes/there.txt", "", 405),
        ("POST", "/notes/", "Content-Type: application/x-www-form-urlencoded", 415),
        ("PATCH", "/notes/there.txt", "", 405),
        ("BREW", "/notes/there.txt", "", 501),
        ("OPTIONS", "/notes/there.txt", "", 204),
        ("PUT", "/text.txt", "", 405),
        ("PUT", "/notesx", "", 405),
    ],
)
def test_conditional_write_is_refused_if_its_condition_is_false(
    httpd: Httpd, tmp_path: Path, method: str, path: str, field: str, status: int
) -> None:
    notes = tmp_path / "notes"
    (notes / "folder").mkdir(parents=True)
    (notes / "there.txt").write_text("there")
    (notes / "link").symlink_to("/etc/passwd")
    os.mkfifo(notes / "fifo")
    received = ask(httpd, path, *[field] * bool(field), method=method, body=b"x")
    assert received.status == status
    if status in (405, 501) or method == "OPTIONS":
        collection = path == "/notes/"
        assert ("PUT" in received.fields["Allow"]) == (path == "/notes/there.txt")
        assert ("POST" in received.fields["Allow"]) == collection
    left = {"folder", "there.txt", "link", "fifo", *(["x"] if status == 201 else [])}
    assert set(os.listdir(notes)) == left
    assert (notes / "there.txt").read_text() == ("x" if status == 204 and method == "PUT" else "there")


@pytest.mark.parametrize(
    ("method", "field", "status"),
    [
        ("POST", 'If-Match: "x"', 412),
        ("POST", 'If-Match: W/"x", "1-1"', 412),
        ("POST", "If-Match: *", 201),
        ("POST", "If-None-Match: *", 412),
        ("POST", 'If-None-Match: "x"', 201),
        ("POST", "If-Unmodified-Since: Sun, 12 Oct 2025 08:00:00 GMT", 201),
        ("GET", 'If-Match: "x"', 412),
        ("HEAD", 'If-Match: "x"', 412),
        ("GET", "If-Match: *", 200),
        ("GET", 'If-None-Match: "x"', 200),
    ],
)
def test_condition_of_a_request_to_the_collection_is_evaluated(
    httpd: Httpd, tmp_path: Path, method: str, field: str, status: int
) -> None:
    found = ask(httpd, "/notes/", field, method=method, body=b"x" if method == "POST" else b"")
    assert found.status == status
    notes = tmp_path / "notes"
    assert notes.exists() == (status == 201)
    assert not notes.exists() or len(os.listdir(notes)) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("place", ["file", "loop", "below a file"])
def test_folder_that_is_no_folder_any_more_is_503_and_the_log_has_the_reason(
    method: str, place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run" / "notes"
    folder.parent.mkdir()
    httpd = service(make(tmp_path), documents={"/notes": str(folder)})
    if place == "loop":
        folder.symlink_to(folder)
    elif place == "file":
        folder.write_bytes(b"")
    else:
        folder.parent.rmdir()
        folder.parent.write_bytes(b"")
    path = "/notes/" if method == "POST" else "/notes/a"
    received = ask(httpd, path, method=method, body=b"one")
    assert (received.status, received.fields["Retry-After"]) == (503, "1")
    reason = "too many levels of symbolic links" if place == "loop" else "not a directory"
    assert caplog.messages == [f"[documents] /notes: {method}: {reason}"]
    assert ask(httpd, "/notes/").status == 503


def test_missing_document_is_not_logged(httpd: Httpd, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(httpd, "/notes/a", method="PUT", body=b"one").status == 201
    assert [ask(httpd, "/notes/b", method=each).status for each in ("GET", "DELETE")] == [404, 404]
    assert caplog.messages == []


def test_documents_beyond_count_or_space_get_507(tmp_path: Path) -> None:
    httpd = documents(tmp_path, make(tmp_path), document_count=2, document_space=10)
    assert ask(httpd, "/notes/a", method="PUT", body=b"12345").status == 201
    assert ask(httpd, "/notes/b", method="PUT", body=b"123456").status == 507
    assert ask(httpd, "/notes/b", method="PUT", body=b"12345").status == 201
    assert ask(httpd, "/notes/c", method="PUT", body=b"").status == 507
    assert ask(httpd, "/notes/", method="POST", body=b"").status == 507
    # A replaced document does not count.
    assert ask(httpd, "/notes/a", method="PUT", body=b"54321").status == 204
    assert sorted(os.listdir(tmp_path / "notes")) == ["a", "b"]


def test_body_beyond_the_limit_gets_413_before_it_is_read(httpd: Httpd) -> None:
    with talking(httpd) as conversation:
        data = request("/notes/x", "Expect: 100-continue", "Content-Length: 1048577", method="PUT")
        assert parsed(conversation.receive(data)).status == 413
        assert conversation.ending is Ending.OVERSIZE
    assert ask(httpd, "/notes/x", method="PUT", body=b"x" * 1024 * 1024).status == 201


def test_full_disk_leaves_the_old_document_unchanged(httpd: Httpd, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(httpd, "/notes/x", method="PUT", body=b"old").status == 201

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "a secret path")

    with monkeypatch.context() as patched:
        patched.setattr("daemons.web.site.store.os.fsync", fail)
        received = ask(httpd, "/notes/x", method="PUT", body=b"new")
    assert (received.status, b"a path" in received.body) == (507, False)
    assert ask(httpd, "/notes/x").body == b"old"
    assert len(json.loads(ask(httpd, "/notes/").body)) == 1


def test_new_folder_and_name_are_synced_before_the_response(
    httpd: Httpd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        "daemons.web.site.store.os.fsync", lambda each: synced.append(os.readlink(f"/proc/self/fd/{each}"))
    )
    assert ask(httpd, "/notes/x", method="PUT", body=b"new").status == 201
    notes = str(tmp_path / "notes")
    assert synced == [str(tmp_path), f"{notes}/.incoming", notes]


@pytest.mark.parametrize("modified", [2**38, 2**33])
def test_document_with_a_future_mtime_is_replaced_with_a_new_tag(httpd: Httpd, tmp_path: Path, modified: int) -> None:
    """The first time is later than some file systems can store."""
    assert ask(httpd, "/notes/x", method="PUT", body=b"old").status == 201
    os.utime(tmp_path / "notes" / "x", (modified, modified))
    tag = ask(httpd, "/notes/x").fields["ETag"]
    assert ask(httpd, "/notes/x", f"If-Match: {tag}", method="PUT", body=b"new").status == 204
    assert ask(httpd, "/notes/x", f"If-Match: {tag}", method="PUT", body=b"too").status == 412


def test_lock_of_another_program_occupies_few_threads(
    httpd: Httpd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Others would have none left for requests of files."""
    monkeypatch.setattr(store, "SHORT", 0.01)
    monkeypatch.setattr(store, "PATIENCE", 60.0)
    assert ask(httpd, "/notes/x", method="PUT", body=b"old").status == 201
    folder = os.open(tmp_path / "notes", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with ThreadPoolExecutor(store.MOST_WAITING) as pool:
            waiting = [
                pool.submit(ask, httpd, f"/notes/{n}", method="PUT", body=b"new") for n in range(store.MOST_WAITING)
            ]
            eventually(lambda: store._places._value == 0)
            found = ask(httpd, "/notes/x", method="DELETE")
            assert (found.status, found.fields["Retry-After"]) == (503, "1")
            assert ask(httpd, "/notes/x").body == b"old"
            fcntl.flock(folder, fcntl.LOCK_UN)
            assert [each.result(20).status for each in waiting] == [201] * store.MOST_WAITING
        fcntl.flock(folder, fcntl.LOCK_EX)
        monkeypatch.setattr(store, "PATIENCE", 0.01)
        caplog.clear()
        assert ask(httpd, "/notes/x", method="DELETE").status == 503
        assert caplog.messages == ["[documents] /notes: DELETE: the lock of the folder was held by others for 0.01 s"]
    finally:
        os.close(folder)
    assert ask(httpd, "/notes/x", method="DELETE").status == 204


def test_concurrent_conditional_writes_lose_no_update(tmp_path: Path) -> None:
    root = make(tmp_path)
    ask(documents(tmp_path, root), "/notes/n", method="PUT", body=b"0")
    counted: list[int] = []

    def count_up() -> None:
        # As in another process: only the folder's lock is shared.
        httpd = documents(tmp_path, root)
        done = 0
        while done < 10:
            found = ask(httpd, "/notes/n")
            new = str(int(found.body) + 1).encode()
            received = ask(httpd, "/notes/n", f"If-Match: {found.fields['ETag']}", method="PUT", body=new)
            assert received.status in (204, 412)
            done += received.status == 204
        counted.append(done)

    threads = [threading.Thread(target=count_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counted == [10, 10, 10]
    assert ask(documents(tmp_path, root), "/notes/n").body == b"30"


def test_chunked_and_pipelined_writes_are_stored(httpd: Httpd) -> None:
    with talking(httpd) as conversation:
        data = request("/notes/x", "Transfer-Encoding: chunked", method="PUT") + b"3\r\nnew\r\n0\r\n\r\n"
        received = send(conversation, data + request("/notes/x") + request("/notes/x", method="DELETE"))
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"201", b"200", b"204"]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("notes = run", "notes = run: not a path; write /name or /name/name, percent-encoded as in a URL"),
        ("/a?b = run", "/a?b = run: not a path; write /name or /name/name, percent-encoded as in a URL"),
        ("/a//b = run", "/a//b = run: not a path; write /name or /name/name, percent-encoded as in a URL"),
        ("/a = conf/x.ini", "/a = conf/x.ini: not a folder"),
        ("/a = no/such", "/a = no/such: cannot be created on the first write: there is no folder {0}/no"),
        ("/a = www/notes", "/a: {0}/www/notes is inside the root; write another folder"),
    ],
)
def test_invalid_documents_setting_is_refused(folder: Folder, line: str, wrong: str) -> None:
    (folder.path / "www").mkdir()
    ini = f"[daemon]\nservice = httpd\nport = 8080\n[httpd]\nroot = www\n[documents]\n{line}\n"
    folder.write("x", ini)
    with pytest.raises(ConfigurationError) as caught:
        target_of(folder.read()).request_handlers()
    assert caught.value.complaints == ["conf/x.ini [documents] " + wrong.format(folder.path)]


def test_two_paths_of_one_folder_are_refused_with_protected(tmp_path: Path) -> None:
    """Otherwise the unprotected path would lead to protected documents."""
    root = make(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "link").symlink_to("notes")
    write(tmp_path / "users", Arthur="x")
    protected = {"/notes": Realm("Notes", str(tmp_path / "users"))}
    for other in ("notes", "notes/../notes", "link"):
        folders = {"/notes": str(tmp_path / "notes"), "/open": str(tmp_path / other)}
        service(root, documents=folders)
        with pytest.raises(ValueError, match="has the same folder"):
            service(root, documents=folders, protected=protected)


def test_paths_below_the_run_folder_follow_it(folder: Folder, tmp_path: Path) -> None:
    for name in ("www", "elsewhere"):
        (tmp_path / name).mkdir()
    tables = "[documents]\n/a = run/notes\n[proxy]\n/b = unix:run/b.sock\n/c = unix:c.sock\n"
    folder.write("x", f"[daemon]\nservice = httpd\nport = 1\n[httpd]\nroot = www\n{tables}")
    settings = folder.read(run=tmp_path / "elsewhere")
    options = target_of(settings).options
    assert options.documents == {"/a": f"{tmp_path}/elsewhere/notes"}
    assert [upstream.path for upstream in options.proxy.values()] == [
        f"{tmp_path}/elsewhere/b.sock",
        f"{tmp_path}/c.sock",
    ]
    assert [upstream.text for upstream in options.proxy.values()] == ["unix:run/b.sock", "unix:c.sock"]


@pytest.mark.parametrize("kind", ["rest of a document", "symbolic link", "hard link", "FIFO"])
def test_file_at_the_temporary_name_is_replaced(httpd: Httpd, tmp_path: Path, kind: str) -> None:
    ask(httpd, "/notes/a", method="PUT", body=b"one")
    incoming, other, reader = tmp_path / "notes" / ".incoming", tmp_path / "other", -1
    other.write_bytes(b"kept")
    if kind == "rest of a document":
        incoming.write_bytes(b"a longer one, and a power cut")
    elif kind == "symbolic link":
        incoming.symlink_to(other)
    elif kind == "hard link":
        incoming.hardlink_to(other)
    else:
        os.mkfifo(incoming)
        # Opening a FIFO for writing blocks without a reader; this reader lets the test end.
        reader = os.open(incoming, os.O_RDONLY | os.O_NONBLOCK)
    assert ask(httpd, "/notes/a", method="PUT", body=b"two").status == 204
    if reader >= 0:
        os.close(reader)
    assert (ask(httpd, "/notes/a").body, other.read_bytes()) == (b"two", b"kept")
    assert os.listdir(tmp_path / "notes") == ["a"]


def test_folder_at_the_temporary_name_is_not_replaced(httpd: Httpd, tmp_path: Path) -> None:
    ask(httpd, "/notes/a", method="PUT", body=b"one")
    (tmp_path / "notes" / ".incoming").mkdir()
    assert ask(httpd, "/notes/a", method="PUT", body=b"two").status == 403
    assert ask(httpd, "/notes/a").body == b"one"


@pytest.mark.parametrize(("modified", "year"), [(2**38, 9999), (2**60, 9999), (-(2**37), 1)])
def test_document_with_a_time_that_has_no_date_is_listed(
    httpd: Httpd, monkeypatch: pytest.MonkeyPatch, modified: int, year: int
) -> None:
    """tmpfs, Btrfs and ZFS can store such times."""
    ask(httpd, "/notes/a", method="PUT", body=b"one")
    monkeypatch.setattr(Store, "entries", lambda store: [Entry("a", 3, modified * 10**9)])
    (about,) = json.loads(ask(httpd, "/notes/").body)
    assert int(about["modified"].split()[3]) == year
