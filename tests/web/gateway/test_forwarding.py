"""What another server answers: what it is told, what is passed on, and what is said when it fails."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from daemons.framings.http import HTTP
from daemons.httpd import Httpd
from daemons.operating.loading.targets import target_of
from daemons.serving.conversation.conversation import IDLE, OVER, PENDING
from daemons.serving.conversation.service import Peer
from daemons.serving.pump import Pump
from daemons.settings.complaints import ConfigurationError
from daemons.web.gateway.upstream_address import UPSTREAM
from daemons.web.gateway.upstream_socket import CONNECT, UpstreamSocket
from daemons.web.site.prefix_map import names_of
from daemons.web.site.protection import Realm
from tests.operating.folder import Folder
from tests.serving.peers import connect, hear_all
from tests.serving.running import Within
from tests.web.example_site import LOCAL, heard, make, request, service, talking
from tests.web.scripted_upstream import OK, Scripted, scripted
from tests.web.site.test_protection import GOOD, write
from tests.web.talking import Response, responses


@pytest.fixture
def upstream() -> Iterator[tuple[Within, Any]]:
    with scripted() as found:
        yield found


@pytest.fixture
def front(tmp_path: Path, upstream: tuple[Within, Any]) -> Iterator[Httpd]:
    with closing(in_front(tmp_path, f"127.0.0.1:{upstream[0].address[1]}")) as httpd:
        yield httpd


def in_front(folder: Path, server: str, **options: Any) -> Httpd:
    return service(make(folder), proxy={"/app": UPSTREAM.parse(server)}, upstream_timeout=20.0, **options)


def asked(httpd: Httpd, path: str, *fields: str, peer: Peer = LOCAL, **more: Any) -> Response:
    """The one answer to a request."""
    with talking(httpd, peer) as conversation:
        octets = heard(conversation, request(path, *fields, **more))
        assert conversation.failure is None
    (found,) = responses(octets, [more.get("method", "GET")])
    return found


def test_what_the_server_behind_is_told(front: Httpd, upstream: tuple[Within, Any]) -> None:
    found = asked(
        front,
        "/app/plain?a=b",
        *("X-Forwarded-For: 6.6.6.6", "X-Forwarded-User: root", "Forwarded: for=6.6.6.6", "X_Forwarded_For: 6.6.6.6"),
        *("X.Forwarded.For: 6.6.6.6", "X-Forwarded!For: 6.6.6.6", "X~Real^IP: 6.6.6.6", "X-Forwarded: for=6.6.6.6"),
        *("Connection: X-Mine, te", "X-Mine: 1", "TE: trailers", "Upgrade: h2c", "Proxy: http://evil.example"),
        *("Via: 1.1 elsewhere", "Accept: text/html", "Accept: */*", "Expect: 100-continue"),
        method="POST",
        body=b"octets",
        host="example.org:8088",
        peer=Peer("[2001:db8::7]:4242", "2001:db8::7", True),
    )
    assert (found.status, found.body, found.fields["content-length"]) == (200, b"plain", "5")
    ((_, said),) = upstream[1].heard
    assert sorted(said.split(b"\r\n")) == sorted(
        [
            b"POST /app/plain?a=b HTTP/1.1",
            b"Host: example.org:8088",
            b"Accept: text/html",
            b"Accept: */*",
            b"Via: 1.1 elsewhere, 1.1 camelot",
            b"X-Forwarded-Host: example.org:8088",
            b"X-Forwarded-For: 2001:db8::7",
            b"X-Forwarded-Proto: https",
            b"Content-Length: 6",
            b"octets",
        ]
    )


@pytest.mark.parametrize(
    "name",
    [
        *("X-Original-URL", "x-rewrite-url", "X-Original-URI", "X-Script-Name", "X-ORIGINAL-HOST", "X-Host"),
        *("True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "Client-IP", "X-Scheme", "Front-End-Https"),
    ],
)
def test_fields_that_frameworks_believe_in_place_of_the_target_or_peer_are_not_forwarded(
    name: str, front: Httpd, upstream: tuple[Within, Any]
) -> None:
    assert asked(front, "/app/plain", f"{name}: /admin", "X-Mine: 1").status == 200
    ((_, forwarded),) = upstream[1].heard
    assert b"X-Mine: 1\r\n" in forwarded
    assert b"/admin" not in forwarded


def test_what_is_about_one_connection_is_not_passed_on(front: Httpd) -> None:
    found = asked(front, "/app/hops")
    assert found.fields == {"content-length": "0", "date": "then", "cache-control": "public, max-age=9"}
    assert asked(front, "/app/hop-date").fields["date"] != "then"
    with talking(front) as conversation:
        octets = heard(conversation, request("/app/cookies"))
    assert octets.count(b"Set-Cookie: ") == 2


@pytest.mark.parametrize(
    ("name", "method", "status", "body", "field"),
    [
        ("chunks", "GET", 200, b"onetwo", ("transfer-encoding", "chunked")),
        ("end", "GET", 200, b"until the end", ("transfer-encoding", "chunked")),
        ("long", "GET", 200, bytes(200000), ("content-length", "200000")),
        ("close", "GET", 200, b"ok", ("content-length", "2")),
        ("head", "HEAD", 200, b"", ("content-length", "7")),
        ("304", "GET", 304, b"", ("content-length", "7")),
        ("204", "DELETE", 204, b"", ("content-length", None)),
        ("teapot", "PATCH", 418, b"", ("content-length", "0")),
        ("odd", "OPTIONS", 599, b"", ("content-length", "0")),
    ],
)
def test_answers_of_every_kind_and_the_connection_goes_on(
    front: Httpd, name: str, method: str, status: int, body: bytes, field: tuple[str, str | None]
) -> None:
    with talking(front) as conversation:
        octets = heard(conversation, request(f"/app/{name}", method=method))
        octets += heard(conversation, request("/app/plain") + request("/text.txt"))
        assert (conversation.state, conversation.failure) == (IDLE, None)
    found, plain, _ = responses(octets, [method])
    assert (found.status, found.body, found.fields.get(field[0])) == (status, body, field[1])
    assert (plain.body, "date" in found.fields, "connection" in found.fields) == (b"plain", True, False)


def test_who_knows_no_chunks_is_told_the_end_by_the_end(front: Httpd) -> None:
    for name, state in (("chunks", OVER), ("end", OVER), ("plain", IDLE)):
        with talking(front) as conversation:
            octets = heard(conversation, request(f"/app/{name}", "Connection: keep-alive", version="1.0"))
            assert conversation.state == state
        (found,) = responses(octets)
        assert found.fields["connection"] == ("close" if state == OVER else "keep-alive")
        assert found.body in (b"onetwo", b"until the end", b"plain")


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("nothing", 502, "closed the connection without a response"),
        ("garbage", 502, "sent a malformed response: it does not begin with HTTP/1."),
        ("folded", 502, "sent a malformed response: header line 2 begins with a blank: lines are not folded"),
        ("coded", 502, "sent a malformed response: a Transfer-Encoding other than chunked"),
        ("lengths", 502, "sent a malformed response: more than one Content-Length"),
        ("twice", 502, "sent a malformed response: more than one Content-Length"),
        ("latin", 502, "sent a malformed response: Content-Length is not one to 18 digits"),
        ("hexadecimal", 502, "sent a malformed response: Content-Length is not one to 18 digits"),
        ("plus", 502, "sent a malformed response: Content-Length is not one to 18 digits"),
        ("both", 502, "sent a malformed response: both Content-Length and Transfer-Encoding"),
        (
            "underscore",
            502,
            "sent a malformed response: a chunk's size is one to sixteen hexadecimal digits, and maybe extensions",
        ),
        ("upgrade", 502, "sent a malformed response: 101 Switching Protocols, but the request had no Upgrade"),
        ("many-hints", 502, "sent a malformed response: more than 16 responses of 1xx"),
        ("no-colon", 502, "sent a malformed response: header line 1 has no colon"),
        (
            "blank-name",
            502,
            "sent a malformed response: header line 1: the bytes before the colon are not a field name",
        ),
        ("split", 502, "sent a malformed response: a control character, or a CR or LF without the other"),
        ("reason", 502, "sent a malformed response: a control character, or a CR or LF without the other"),
        ("short", 502, "closed the connection 4 bytes before the end of the body"),
        ("head-only", 502, "closed the connection in the middle of a chunked body, behind 0 bytes"),
        ("head-of-much", 502, "closed the connection 300000 bytes before the end of the body"),
        ("mute", 504, "no response within 0.1 s (upstream_timeout)"),
    ],
)
def test_a_server_that_fails_is_told_in_the_log_and_of_it_no_more_than_that_to_the_visitor(
    tmp_path: Path, upstream: tuple[Within, Any], name: str, status: int, reason: str
) -> None:
    server = f"127.0.0.1:{upstream[0].address[1]}"
    options = {"upstream_timeout": 0.1} if name == "mute" else {"upstream_timeout": 20.0}
    httpd = service(make(tmp_path), proxy={"/app": UPSTREAM.parse(server)}, **options)
    with closing(httpd):
        found = asked(httpd, f"/app/{name}", method="POST", body=b"")
    assert found.status == status
    assert b"malformed" not in found.body
    assert "set-cookie" not in found.fields
    assert upstream[0].log_line(f"127.0.0.1:4242: /app: upstream server {server}: {reason}")


def test_who_leaves_in_the_middle_has_the_server_behind_told(front: Httpd, upstream: tuple[Within, Any]) -> None:
    with talking(front) as conversation:
        assert conversation.receive(request("/app/endless")).startswith(b"HTTP/1.1 200 OK")
        assert conversation.state == PENDING
    upstream[0].expect_nobody()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("short-chunk", "closed the connection in the middle of a chunked body, behind 5 bytes"),
        ("short-until-close", "closed the connection 200000 bytes before the end of the body"),
    ],
)
@pytest.mark.parametrize("engine", ["pool", "threads"])
def test_a_response_that_stops_in_its_middle_is_cut_short_and_logged_in_one_line(
    front: Httpd, upstream: tuple[Within, Any], engine: str, name: str, reason: str
) -> None:
    running = Within(engine, Pump.carrying(front))
    try:
        with connect(running.address) as client:
            client.sendall(request(f"/app/{name}") + request("/text.txt"))
            octets = hear_all(client)
        line = running.log_line(": /app: upstream server ")
        assert line.endswith(f": /app: upstream server 127.0.0.1:{upstream[0].address[1]}: {reason}")
        running.log_line(" failed messages=")
        assert not [each for each in running.lines if "Traceback" in each or "the service failed" in each]
    finally:
        running.close()
    assert octets.startswith(b"HTTP/1.1 200 OK\r\n")
    assert octets.count(b"HTTP/1.1") == 1, "nothing is sent behind it"
    if name != "short-until-close":
        assert not octets.endswith(b"0\r\n\r\n")


def test_interim_responses_are_skipped_and_many_fields_passed_on(front: Httpd) -> None:
    assert asked(front, "/app/hints").body == b"hints"
    with talking(front) as conversation:
        assert heard(conversation, request("/app/many-fields")).count(b"Set-Cookie: a=b\r\n") == 150


def test_a_body_without_a_chunk_is_passed_on_with_its_head(front: Httpd) -> None:
    found = asked(front, "/app/empty-chunks")
    assert (found.status, found.body, found.fields["transfer-encoding"]) == (200, b"", "chunked")


def test_bytes_behind_a_response_are_no_other_clients_response(front: Httpd, upstream: tuple[Within, Any]) -> None:
    assert asked(front, "/app/surplus").body == b"ok"
    assert asked(front, "/app/plain").body == b"plain"
    assert [number for number, _ in upstream[1].heard] == [1, 2]


@pytest.mark.parametrize(
    "path",
    [
        *("/app/..;/admin", "/app/a/..;x=y/b", "/app/.;/plain", "/app/%2e%2e;/plain", "/app/%252e%252e/plain"),
        *("/app/..%3Fx", "/app/a/..%23/plain", "/app/.%3f", "/app/%252e.%253F/plain"),
        *("/app/%25252E./plain", "/app/a%252f..%252fb/plain", "/app/a%255c..%255cb/plain", "/app/%" + "25" * 99 + "2e"),
    ],
)
def test_a_path_in_which_the_server_behind_may_find_dot_segments_is_not_forwarded(
    front: Httpd, upstream: tuple[Within, Any], path: str
) -> None:
    assert asked(front, path).status == 404
    assert upstream[1].heard == []


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        ("/%61pp/%7euser/%2d%2E%5F", "/app/~user/-._"),
        ("/app/%c3%bc%3b%2b", "/app/%C3%BC%3B%2B"),
        ("/app/;a=b/+!$&'()*,=:@?%61=%zz%2f", "/app/;a=b/+!$&'()*,=:@?%61=%zz%2f"),
        ("/app/100%?%", "/app/100%25?%"),
        ("/app/.../..a/a..;b", "/app/.../..a/a..;b"),
        ("/app/%2561dmin/%25", "/app/%2561dmin/%25"),
        ("http://localhost/app/%41", "/app/A"),
    ],
)
def test_the_path_that_is_forwarded_is_the_path_that_was_checked_in_its_normal_form(
    front: Httpd, upstream: tuple[Within, Any], path: str, forwarded: str
) -> None:
    asked(front, path + ("&/plain" if "?" in path else "/plain"))
    target = upstream[1].heard[0][1].split(b" ")[1].decode()
    assert target == forwarded + ("&/plain" if "?" in path else "/plain")
    assert names_of(target.partition("?")[0]) == names_of(
        path.removeprefix("http://localhost").partition("?")[0] + "/plain" * ("?" not in path)
    )


def test_nobody_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and listens not
        with closing(in_front(tmp_path, f"127.0.0.1:{held.getsockname()[1]}")) as httpd:
            found = asked(httpd, "/app/")
            assert (found.status, found.body.count(b"502 Bad Gateway")) == (502, 2)
            assert asked(httpd, "/text.txt").status == 200
    httpd = service(str(tmp_path / "www"), proxy={"/app": UPSTREAM.parse(f"unix:{tmp_path}/no.sock")})
    assert asked(httpd, "/app").status == 502
    assert "connection refused while connecting" in caplog.messages[0]
    assert f"upstream server unix:{tmp_path}/no.sock: no such file or directory while connecting" in caplog.messages[1]


def test_connections_are_kept_and_a_stale_one_is_noticed(front: Httpd, upstream: tuple[Within, Any]) -> None:
    for name in ("plain", "chunks", "plain"):
        asked(front, f"/app/{name}")
    assert [number for number, _ in upstream[1].heard] == [1, 1, 1]
    # Asked anew, this closes a connection that was used before.
    assert asked(front, "/app/first").body == b"plain"
    # Behind HEAD, a 204 and a 304 there may be a body that should not be there.
    asked(front, "/app/head", method="HEAD")
    asked(front, "/app/204")
    asked(front, "/app/304")
    asked(front, "/app/plain")
    assert [number for number, _ in upstream[1].heard][3:] == [1, 2, 2, 3, 4, 5]


def test_of_what_get_would_have_head_tells_one_length_or_none(front: Httpd) -> None:
    for name, lengths in (("head", 1), ("chunks", 0), ("end", 0)):
        with talking(front) as conversation:
            said = heard(conversation, request(f"/app/{name}", method="HEAD")).lower()
            assert said.count(b"content-length: 7\r\n") == said.count(b"content-length:") == lengths


def test_what_may_have_been_done_is_not_done_twice(front: Httpd, upstream: tuple[Within, Any]) -> None:
    asked(front, "/app/plain")
    assert asked(front, "/app/first", method="POST", body=b"1").status == 502
    assert [number for number, _ in upstream[1].heard] == [1, 1]
    upstream[0].log_line("closed a kept connection after a request was sent")
    asked(front, "/app/stale")
    upstream[0].expect_nobody()
    # By now it is known that this connection has ended.
    assert asked(front, "/app/plain", method="POST", body=b"2").status == 200


def test_circles_other_methods_and_other_spellings(front: Httpd, upstream: tuple[Within, Any]) -> None:
    assert asked(front, "/app/plain", "Via: " + ", ".join(["1.1 camelot"] * 9)).status == 508
    assert asked(front, "/app/plain", method="TRACE").status == 405
    for path in ("/app/../secret", "/app//x", "/app%2fplain", "/app/a%2f..%2fb", "/apples"):
        assert asked(front, path).status == 404
    assert upstream[1].heard == []


def test_what_is_protected_is_no_cache_s(tmp_path: Path, upstream: tuple[Within, Any]) -> None:
    write(tmp_path / "users", Arthur="of the Britons:")
    realms = {"/app": Realm("The vault", str(tmp_path / "users"))}
    with closing(in_front(tmp_path, f"127.0.0.1:{upstream[0].address[1]}", protected=realms)) as httpd:
        assert asked(httpd, "/app/hops").status == 401
        assert upstream[1].heard == []
        assert asked(httpd, "/app/hops", GOOD).fields["cache-control"] == "private, no-cache"
        fields = asked(httpd, "/app/caches", GOOD).fields
        assert fields.keys() == {"content-length", "date", "cache-control"}
        assert fields["cache-control"] == "private, no-cache"


def test_a_server_may_respond_before_it_has_read_the_body(tmp_path: Path) -> None:
    path, size = str(tmp_path / "app.sock"), 1_000_000

    def serve() -> None:
        with listener.accept()[0] as peer, peer.makefile("rb") as octets:
            while octets.readline() != b"\r\n":
                pass
            peer.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            peer.sendall(b"7\r\n%d\r\n0\r\n\r\n" % len(octets.read(size)))

    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen()
        server = Thread(target=serve)
        server.start()
        with closing(in_front(tmp_path, f"unix:{path}")) as httpd:
            # More than the socket holds:
            assert asked(httpd, "/app/", method="POST", body=bytes(size)).body == b"hello1000000"
        server.join()


def test_a_full_queue_of_a_unix_socket_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "app.sock")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(path)

        def serve() -> None:
            listener.accept()[0].close()
            with listener.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(OK + b"Content-Length: 2\r\n\r\nok")

        server = Thread(target=serve)
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                server.start()
            Event().wait(seconds)

        monkeypatch.setattr("daemons.serving.listening.unix_client.sleep", pause)
        httpd = service(make(tmp_path), proxy={"/app": UPSTREAM.parse(f"unix:{path}")})
        stack.enter_context(closing(httpd))
        assert asked(httpd, "/app/").body == b"ok"
        server.join()
        monkeypatch.setattr("daemons.web.gateway.upstream_socket.CONNECT", 0.0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        assert asked(httpd, "/app/").status == 504


def test_a_server_at_an_address_with_a_zone_is_asked(tmp_path: Path) -> None:
    with closing(service(make(tmp_path), proxy={"/app": UPSTREAM.parse("[fe80::1%lo]:9")})) as httpd:
        assert asked(httpd, "/app/").status in (502, 504)  # nobody has that address
    assert UPSTREAM.parse("[fe80::1%lo]:9")[1:3] == ("fe80::1%lo", 9)


def test_unreachable_address_of_a_host_leaves_time_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def connect_in_vain(family: int, protocol: int, address: object, timeout: float) -> socket.socket:
        given.append(timeout)
        now[0] += timeout
        raise TimeoutError

    now = [100.0]
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{last}", 80)) for last in (1, 2, 3, 4)]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: addresses)
    monkeypatch.setattr("daemons.web.gateway.upstream_socket._connect", connect_in_vain)
    monkeypatch.setattr("daemons.web.gateway.upstream_socket.monotonic", lambda: now[0])
    with pytest.raises(TimeoutError):
        UpstreamSocket(UPSTREAM.parse("behind.example:80"))
    assert given == pytest.approx([CONNECT / 4] * 4)


def test_under_a_pool_a_stock_client_hears_what_a_slow_reader_hears(front: Httpd, upstream: tuple[Within, Any]) -> None:
    running = Within("pool", Pump.carrying(front))
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", running.address[1], timeout=20)) as client:
            for name, body in (("long", bytes(200000)), ("chunks", b"onetwo"), ("plain", b"plain")):
                client.request("GET", f"/app/{name}")
                assert client.getresponse().read() == body
        running.expect_nobody()
    finally:
        running.close()


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("/app = 8001", "/app = 8001: not a server address; write 127.0.0.1:8001, [::1]:8001 or unix:run/webapp.sock"),
        ("/app = http://localhost:8001/", "/app = http://localhost:8001/: not a server address; write 127.0.0.1:8001"),
        ("/app = localhost:70000", "/app = localhost:70000: not a port"),
        ("/app = localhost:0", "/app = localhost:0: port 0 is not valid"),
        ("/app = unix:", "/app = unix:: no path"),
        ("/app = [::::]:80", "/app = [::::]:80: :::: is not an IPv6 address; write [::1]:8001"),
        ("/app = [1.2.3.4]:80", "/app = [1.2.3.4]:80: 1.2.3.4 is not an IPv6 address"),
        (f"/app = unix:/{'x' * 107}", f"/app = unix:/{'x' * 107}: /{'x' * 107} is longer than 107 bytes, the limit"),
        ("/app = [::1]:8001\n[documents]\n/app = notes", "/app: [documents] has the same path"),
    ],
)
def test_what_check_says_of_proxy(folder: Folder, line: str, wrong: str) -> None:
    (folder.path / "www").mkdir()
    ini = f"[daemon]\nservice = httpd\nport = 8080\nengine = pool\n[httpd]\nroot = www\n[proxy]\n{line}\n"
    folder.write("x", ini)
    with pytest.raises(ConfigurationError) as caught:
        target_of(folder.read()).request_handlers()
    (complaint,) = caught.value.complaints
    assert complaint.startswith(f"conf/x.ini [proxy] {wrong}")


@pytest.mark.parametrize(
    ("table", "line"),
    [("proxy", "/a = unix:run/a.sock"), ("documents", "/a = notes"), ("redirects", "/a = 301 /b")],
)
def test_what_waits_is_refused_under_the_loop(folder: Folder, table: str, line: str) -> None:
    (folder.path / "www").mkdir()
    folder.write("x", f"[daemon]\nservice = httpd\nport = 1\n[httpd]\nroot = www\n[{table}]\n{line}\n")
    target_of(folder.read("daemon.engine=pool")).request_handlers()
    if table == "redirects":
        target_of(folder.read("daemon.engine=loop")).request_handlers()
        return
    with pytest.raises(ConfigurationError, match=rf"blocks: \[{table}\]; write engine = pool"):
        target_of(folder.read("daemon.engine=loop")).request_handlers()


def test_a_response_before_the_end_of_the_request_is_passed_on(tmp_path: Path) -> None:
    class Refusing(Scripted):
        """Reads a head and not its body, and waits for the end of the connection."""

        def handle(self) -> None:
            with suppress(OSError), self.request.makefile("rb", buffering=0) as octets:
                while octets.readline() != b"\r\n":
                    pass
                self.request.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                self.request.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
                ended.wait(20)

    ended = Event()
    running = Within("threads", Refusing)
    running.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        with closing(in_front(tmp_path, "{}:{}".format(*running.address))) as httpd:
            httpd.framing = HTTP(body=64 * 1024**2)
            found = asked(httpd, "/app/a", method="PUT", body=bytes(32 * 1024**2))
            assert (found.status, found.body) == (413, b"big")
            ended.set()
    finally:
        ended.set()
        running.close()


def test_behind_a_body_that_nobody_reads_the_next_visitor_hears_what_he_has_asked(tmp_path: Path) -> None:
    class Careless(Scripted):
        """Looks for the end of a head, whatever it says of a body, and takes its time with what is not asked for."""

        def handle(self) -> None:
            with suppress(OSError), self.request.makefile("rb") as octets:
                while head := b"".join(iter(octets.readline, b"\r\n")) if octets.peek(1) else b"":
                    name = head.split(b" ")[1]
                    if name == b"/smuggled":
                        may_answer.wait(10)
                    self.request.sendall(OK + b"Content-Length: %d\r\n\r\n%b" % (len(name), name))

    may_answer = Event()
    running = Within("threads", Careless)
    front = in_front(tmp_path, "{}:{}".format(*running.address))
    try:
        within = b"GET /smuggled HTTP/1.1\r\n\r\n"
        assert asked(front, "/app/a", body=within).body == b"/app/a"
        assert asked(front, "/app/b").body == b"/app/b"
    finally:
        may_answer.set()
        front.close()
        running.close()
