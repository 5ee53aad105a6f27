"""``daemons links``: each link is requested once, with HEAD."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.clients.test_tools import closed_port
from tests.clients.web.conftest import Running
from tests.clients.web.responses import Capture, responding, response
from tests.clients.web.site import Site, daemons, serving
from tests.operating.live import BIN, environment, until


def test_dead_and_moved_links_are_reported(capsys: Capture) -> None:
    away = f"http://127.0.0.1:{closed_port()}/"
    with serving(away=away) as (url, received):
        assert daemons("links", f"{url}/") == 1
        out, err = capsys.readouterr()
        requests = Counter((each.method, each.path) for each in received)
    on = f" (on {url}/)"
    assert (out.splitlines()[-1], err) == ("10 links: 4 dead, 2 moved", "")
    lines = sorted(set(out.splitlines()[:-1]))
    assert lines == sorted(
        [
            f"dead 404 {url}/gone Not Found{on}",
            f"moved 301 {url}/moved -> {url}/good{on}",
            f"dead {url}/#nowhere: no element of the page has this id",
            f"moved 302 {url}/loop -> {url}/loop{on}",
            f"dead {url}/loop: more than 10 redirects, the last to {url}/loop{on}",
            f"dead {away}: connection refused{on}",
        ]
    )
    # /good is requested once for itself, and once as the target of /moved.
    assert {key: count for key, count in requests.items() if count != 1} == {
        ("HEAD", "/good"): 2,
        ("HEAD", "/loop"): 11,
    }
    assert {path for method, path in requests if method == "GET"} == {"/", "/getonly.png"}
    # The actions of forms are not links.
    assert not {"/dangerous", "/search"} & {path for _, path in requests}


def test_depth_option_checks_linked_pages(capsys: Capture) -> None:
    class Deep(Site):
        def page_(self, _: bytes) -> None:
            self.respond(200, b"<base href='/sub/'><a href='../other'>o</a><a href='http://[bad'>b</a><a href=''>e</a>")

        def page_deeper(self, _: bytes) -> None:
            self.respond(200, b"<a href='/never'>n</a>")

        def page_moved(self, _: bytes) -> None:
            self.respond(301, Location="/deeper")

    with serving(Deep) as (url, received):
        assert daemons("links", "-v", "--depth", "1", f"{url}/") == 0
        assert sorted(capsys.readouterr().out.splitlines()) == [
            "5 links: 0 dead, 1 moved",
            f"moved 301 {url}/moved -> {url}/deeper (on {url}/other)",
            f"ok 200 {url}/deeper",
            f"ok 200 {url}/good",
            f"ok 200 {url}/moved",
            f"ok 200 {url}/other",
            f"ok 200 {url}/private/secret",
        ]
        assert "/never" not in {each.path for each in received}
        assert daemons("links", "--depth", "2", f"{url}/") == 1
        out = capsys.readouterr().out
        assert f"dead 404 {url}/never Not Found (on {url}/deeper)\n" in out
        assert out.endswith("\n6 links: 1 dead, 1 moved\n")


def test_credentials_are_sent_to_one_origin_only(capsys: Capture) -> None:
    with serving() as (other, elsewhere), serving(away=f"{other}/login") as (url, received):
        assert daemons("links", "-u", "galahad:blue: no", "-H", "Cookie: c=1", f"{url}/") == 1
        assert all(each.fields["Authorization"] and each.fields["Cookie"] for each in received)
        daemons("scrape", "--delay", "0", "-u", "galahad:blue: no", f"{url}/to?u={other}/login")
        assert daemons("links", url.replace("//", "//galahad:blue%3A%20no@") + "/") == 1
        daemons("scrape", "--delay", "0", url.replace("//", "//galahad:blue%3A%20no@") + "/private")
        output = capsys.readouterr()
        assert "blue" not in output.out + output.err
        assert f"daemons scrape: {url}/private: robots.txt disallows it\n" in output.err
    assert {each.path for each in elsewhere} == {"/login", "/robots.txt"}
    assert not any("Authorization" in each.fields or "Cookie" in each.fields for each in elsewhere)
    assert f"dead 401 {other}/login Unauthorized (on {url}/)" in output.out


def test_at_most_four_concurrent_requests_per_host(capsys: Capture) -> None:
    """Each request waits until four are pending, or no other has arrived for a while."""
    gate, lock, now = threading.Barrier(4), threading.Lock(), [0, 0]

    class Crowded(Site):
        def page_(self, _: bytes) -> None:
            self.respond(200, b"".join(b"<a href='/each/%d'>x</a>" % number for number in range(12)))

        def page_each(self, _: bytes) -> None:
            with lock:
                now[0] += 1
                now[1] = max(now)
            gate.wait(20)
            with lock:
                now[0] -= 1
            self.respond(200)

    with serving(Crowded) as (url, _):
        assert daemons("links", f"{url}/") == 0
    assert capsys.readouterr().out == "12 links: 0 dead, 0 moved\n"
    assert now[1] == 4


def test_ctrl_c_ends_pending_requests() -> None:
    come, leaving = threading.Event(), threading.Event()

    class Stalling(Site):
        def page_(self, _: bytes) -> None:
            self.respond(200, b"<a href='/stall'>x</a>")

        def page_stall(self, _: bytes) -> None:
            come.set()
            leaving.wait(20)

    with serving(Stalling) as (url, _):
        command = [str(BIN / "daemons"), "links", f"{url}/"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
            try:
                assert come.wait(20)
                process.send_signal(signal.SIGINT)
                # The requests are unanswered: the command does not end because of a response.
                assert process.communicate(timeout=20)[1] == ""
                assert process.returncode == 130
            finally:
                leaving.set()
                process.kill()


def is_connecting(port: int) -> bool:
    """Return whether a loopback socket is in SYN_SENT with this destination port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    return any(remote.endswith(f":{port:04X}") and state == "02" for _, _, remote, state, *_ in lines)


def test_ctrl_c_ends_pending_connections() -> None:
    """A listener with a full accept queue ignores connections."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
    ):
        port = full.getsockname()[1]
        page = response(f"<a href=http://127.0.0.1:{port}/>x</a>".encode(), "Content-Type: text/html")
        with responding(page) as foreign:
            command = [str(BIN / "daemons"), "links", f"http://127.0.0.1:{foreign.port}/"]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
                try:
                    until(lambda: is_connecting(port), "the connection")
                    process.send_signal(signal.SIGINT)
                    assert process.communicate(timeout=20)[1] == ""
                    assert process.returncode == 130
                finally:
                    process.kill()


def test_resource_that_is_not_html_is_an_error(site: Running, capsys: Capture) -> None:
    for path, expected in (
        ("good", f"{site.url}/good: text/plain; expected an HTML page"),
        ("gone", f"{site.url}/gone: 404 Not Found"),
    ):
        assert daemons("links", f"{site.url}/{path}") == 1
        assert capsys.readouterr() == ("", f"daemons links: {expected}\n")


def test_error_with_text_of_the_server_is_one_line(capsys: Capture) -> None:
    with responding(response(b"", "Content-Type: text/x\x85daemons links: fine")) as foreign:
        assert daemons("links", f"http://127.0.0.1:{foreign.port}/") == 1
    err = capsys.readouterr().err
    assert (err.count("\n"), "text/x\\x85daemons links: fine; expected an HTML page" in err) == (1, True)


def test_endless_page_is_refused(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Site):
        def page_(self, _: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"<p>on and on" * 1000)
            except OSError:
                pass

    monkeypatch.setattr("daemons.clients.web.pages.LONGEST", 100_000)
    with serving(Endless) as (url, _):
        assert daemons("links", f"{url}/") == 1
    assert capsys.readouterr().err == f"daemons links: {url}/: the page is longer than 100000 bytes\n"


def linking(*references: str, base: str = "") -> bytes:
    """Return a response with a page that has these links."""
    page = base + "".join(f"<a href='{reference}'>x</a>" for reference in references)
    return response(page.encode(), "Content-Type: text/html; charset=utf-8")


def test_overlong_encoded_link_is_dead_and_the_others_are_checked(capsys: Capture) -> None:
    with responding(linking("/" + "\u00fc" * 30_000, "/good"), response(b"")) as foreign:
        assert daemons("links", f"http://127.0.0.1:{foreign.port}/") == 1
    out, err = capsys.readouterr()
    assert (out.splitlines()[-1], err) == ("2 links: 1 dead, 0 moved", "")


def test_link_that_is_malformed_without_its_fragment_is_ignored(capsys: Capture) -> None:
    with responding(linking("https:////[#x", "https:////[", "/good"), response(b"")) as foreign:
        assert daemons("links", "-v", f"http://127.0.0.1:{foreign.port}/") == 1
        out, err = capsys.readouterr()
        assert f"ok 200 http://127.0.0.1:{foreign.port}/good" in out.splitlines()
    assert (out.splitlines()[-1], err) == ("2 links: 1 dead, 0 moved", "")


def test_total_length_of_resolved_links_is_limited(capsys: Capture) -> None:
    base = f"<base href='http://127.0.0.1/{'a' * 1_000_000}/'>"
    with responding(linking(*map(str, range(100)), base=base)) as foreign:
        assert daemons("links", f"http://127.0.0.1:{foreign.port}/") == 1
    assert "the links have more than" in capsys.readouterr().err


def test_truncated_linked_page_does_not_stop_the_check(capsys: Capture) -> None:
    class Cut(Site):
        def page_(self, _: bytes) -> None:
            self.respond(200, b"<a href='/cut'>c</a><a href='/other'>o</a>")

        def page_cut(self, _: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.close_connection = True

        def page_other(self, _: bytes) -> None:
            self.respond(200, b"<a href='/gone'>g</a>")

    with serving(Cut) as (url, _):
        assert daemons("links", "--depth", "1", f"{url}/") == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "3 links: 1 dead, 0 moved"
    assert f"{url}/cut: " in err


def test_pages_of_the_same_host_in_other_spelling_are_checked(capsys: Capture) -> None:
    class Spelled(Site):
        def page_(self, _: bytes) -> None:
            host = self.headers["Host"].upper()
            self.respond(200, f"<a href='http://{host}/other'>o</a>".encode())

        def page_other(self, _: bytes) -> None:
            self.respond(200, b"<a href='/gone'>g</a>")

    with serving(Spelled) as (url, _):
        assert daemons("links", "--depth", "1", f"{url.replace('127.0.0.1', 'localhost')}/") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 links: 1 dead, 0 moved"
