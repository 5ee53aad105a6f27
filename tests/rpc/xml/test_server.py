"""Requests and calls without sockets: access, refusals, and the documentation page."""

from __future__ import annotations

import base64
import gzip
import logging
import tracemalloc
import xmlrpc.client
from pathlib import Path
from typing import Any

import pytest

import daemons.adder
import daemons.calc
import daemons.rpcmath
from daemons.accounts import ACCEPTED, Accounts, Verdict, accounts
from daemons.operating.logging.access_log import AccessLog
from daemons.rpc.refusals import RefusalError
from daemons.rpc.xml.server import MultiPathXMLRPCServer, XMLRPCRequestHandler, XMLRPCServer
from daemons.rpc.xml.wsgi import dispatcher
from daemons.serving.connection import Connection
from daemons.serving.engines import stream_server
from tests.accounts.files import write_secret
from tests.rpc.calling import call, loaded, post, request, server_for, visit, visit_server
from tests.web.talking import responses, said

ADD = xmlrpc.client.dumps((3, 5), "add").encode()


def test_calc() -> None:
    with visit(daemons.calc) as there:
        assert [call(there, name, 7, 3) for name in ("add", "subtract", "multiply", "divide")] == [10, 4, 21, 2]
        assert call(there, "divide", -7, 3) == -3
        calls = [{"methodName": "divide", "params": [7, 0]}, {"methodName": "add", "params": [7, 3]}]
        fault, result = call(there, "system.multicall", calls)
        assert fault["faultString"].startswith("<class 'ZeroDivisionError'>:")
        assert result == [10]
        assert there.messages == 6


def test_rpcmath() -> None:
    with visit(daemons.rpcmath) as there:
        assert call(there, "addtogether", "x", "y", "z") == "xyz"
        assert call(there, "addtogether", 20, 30, 4, 1) == 55
        assert call(there, "quadratic", 2, -4, 0) == [0.0, 2.0]
        assert call(there, "quadratic", 1, 2, 1) == [-1.0]
        assert call(there, "remote_repr", (1, 2.0, "three")) == "[1, 2.0, 'three']"
        assert call(there, "remote_repr", {"name": "John", "ÿ": None}) == "{'name': 'John', 'ÿ': None}"
        assert {each["number"]: each["symbol"] for each in call(there, "elements")}[2] == "He"
        for parameters, text in (
            ((1, 0, 1), "math domain error"),
            ((0, 1, 1), "a is 0, so the equation is not quadratic"),
        ):
            with pytest.raises(xmlrpc.client.Fault) as caught:
                call(there, "quadratic", *parameters)
            assert (caught.value.faultCode, caught.value.faultString) == (1, f"<class 'ValueError'>:{text}")
        with pytest.raises(xmlrpc.client.Fault, match="no arguments to add together"):
            call(there, "addtogether")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_last_response_announces_the_close(version: str) -> None:
    with visit(daemons.adder) as there:
        assert loaded(post(there, ADD).body) == 8
        response = post(there, ADD, "Connection: close", version=version)
        assert (loaded(response.body), response.fields["connection"]) == (8, "close")
        assert there.ending is not None


@pytest.mark.parametrize(
    ("fields", "more", "status", "body"),
    [
        ((), {"path": "/elsewhere"}, 404, b"Not Found: no resource at this path.\n"),
        ((), {"path": "/elsewhere", "method": "GET"}, 404, b"Not Found: no resource at this path.\n"),
        (("Origin: http://evil.example",), {}, 403, b"Forbidden: browser scripts may not call this server.\n"),
        (("Origin: null",), {"method": "GET"}, 403, b"Forbidden: browser scripts may not call this server.\n"),
        (("Content-Encoding: gzip",), {}, 400, b"Bad Request: the body is not valid gzip data.\n"),
        *(
            (
                (f"Content-Encoding: {coding}",),
                {},
                501,
                b"Not Implemented: the content coding is neither gzip nor identity.\n",
            )
            for coding in ("br", "x-gzip", "gzip, gzip", "<b>", "")
        ),
        ((), {"method": "GET", "page": False}, 405, b"Method Not Allowed: calls are sent by POST.\n"),
        ((), {"method": "PUT"}, 501, None),
    ],
)
def test_request_is_refused_with_status_and_reason(
    fields: tuple[str, ...], more: dict[str, Any], status: int, body: bytes | None
) -> None:
    options = {name: more.pop(name) for name in ("page",) if name in more}
    with visit(daemons.adder, **options) as there:
        response = post(there, ADD, *fields, **more)
        assert (response.status, response.body) == (status, response.body if body is None else body)
        if there.ending is None:
            assert loaded(post(there, ADD).body) == 8


def test_nothing_beyond_the_limit_is_unpacked() -> None:
    bomb = gzip.compress(b"<methodCall>" + b" " * 16 * 1024**2)
    assert len(bomb) < 100_000
    with visit(daemons.adder) as there:
        tracemalloc.start()
        try:
            response = post(there, bomb, "Content-Encoding: gzip")
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
        finally:
            tracemalloc.stop()
        assert (response.status, response.body) == (
            413,
            b"Content Too Large: the body exceeds 1048576 bytes when decompressed.\n",
        )
        assert post(there, gzip.compress(ADD)[:-1], "Content-Encoding: gzip").status == 400
        assert loaded(post(there, gzip.compress(ADD), "Content-Encoding: gzip").body) == 8


def test_long_body_is_refused_before_it_is_read() -> None:
    with visit(daemons.adder) as there:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n"
        (response,) = responses(said(there, head))
        assert (response.status, response.fields["connection"]) == (413, "close")


def test_only_known_users_may_call(tmp_path: Path) -> None:
    users = tmp_path / "users"
    secret = write_secret(users)
    users.chmod(0o640)
    known = base64.b64encode(f"robin:{secret}".encode()).decode()
    with visit(daemons.adder, users=Accounts(str(users))) as there:
        for wrong in (
            "",
            "Basic",
            f"Bearer {known}",
            "Basic cm9iaW46bm8=",
            "Basic %",
            "Basic cm9iaW4=",
            f"Basic {known}x",
        ):
            for method in ("POST", "GET"):
                response = post(there, ADD, *([f"Authorization: {wrong}"] * bool(wrong)), method=method)
                assert (response.status, response.body) == (
                    401,
                    b"Unauthorized: a user name and a password are required.\n",
                )
                assert response.fields["www-authenticate"] == 'Basic realm="knights", charset="UTF-8"'
        for _ in range(2):
            assert loaded(post(there, ADD, f"Authorization: basic {known}").body) == 8
        assert post(there, b"", f"Authorization: Basic {known}", method="GET").status == 200


def test_a_server_that_judges_visitors_itself_is_asked_each_time(tmp_path: Path) -> None:
    handler, kind = server_for(daemons.adder)
    asked: list[str] = []

    class Strict(kind):  # type: ignore[misc, valid-type]
        def check_access(self, fields: Any) -> str:
            asked.append(fields["host"])
            if len(asked) > 2:
                raise RefusalError(403, "That is enough.")
            return ""

    with visit_server(Strict(("127.0.0.1", 80), handler, bind_and_activate=False)) as there:
        assert [post(there, ADD).status for _ in range(3)] == [200, 200, 403]
    server = kind(("127.0.0.1", 80), handler, bind_and_activate=False)
    with visit_server(server) as there:
        assert post(there, ADD).status == 200
        write_secret(tmp_path / "users")
        server.users = Accounts(str(tmp_path / "users"))
        assert post(there, ADD).status == 401


def test_verdict_by_an_earlier_state_of_the_users_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "NOTICED", 0.0)
    path = tmp_path / "users"
    secret = write_secret(path)
    credentials = f"Authorization: Basic {base64.b64encode(f'robin:{secret}'.encode()).decode()}"
    handler, kind = server_for(daemons.adder)
    server = kind(("127.0.0.1", 80), handler, bind_and_activate=False)

    class Changing(Accounts):
        def check(self, name: str, password: str, peer: str) -> Verdict:
            """While one thread checks access, the file changes, and another thread notices."""
            verdict = super().check(name, password, peer)
            if verdict.outcome is ACCEPTED:
                write_secret(path, "galahad")
                assert post(other, ADD, credentials).status == 401
            return verdict

    with visit_server(server) as there:
        other = server.make_conversation(Connection(server.socket, ("192.0.2.7", 4243), 1.0))
        other.open()
        server.users = Changing(str(path))
        assert post(there, ADD, credentials).status == 200
        assert post(there, ADD, credentials).status == 401
        other.close()


def test_each_request_is_logged_with_its_user(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO)
    secret = write_secret(tmp_path / "users")
    handler, kind = server_for(daemons.adder, users=Accounts(str(tmp_path / "users")))
    server = kind(("127.0.0.1", 80), handler, bind_and_activate=False)
    server.log_to(AccessLog("adder", requests="common"))
    credentials = f"Authorization: Basic {base64.b64encode(f'robin:{secret}'.encode()).decode()}"
    with visit_server(server) as there:
        for fields in ((credentials,), (credentials,), (credentials, "Accept-Encoding: gzip;q=0.5"), ()):
            post(there, ADD, *fields)
        post(there, b"", credentials, method="GET")
    lines = [record.getMessage() for record in caplog.records if record.name == "daemons.adder.requests"]
    told = [line.partition(" - ")[2].partition("] ") for line in lines]
    assert [before.partition(" ")[0] for before, _, _ in told] == ["robin", "robin", "robin", "-", "robin"]
    assert [after.rpartition(" ")[0] for _, _, after in told] == [
        *['"POST /RPC2 HTTP/1.1" 200'] * 3,
        '"POST /RPC2 HTTP/1.1" 401',
        '"GET /RPC2 HTTP/1.1" 200',
    ]


def test_the_page_for_people() -> None:
    with visit(daemons.rpcmath) as there:
        response = post(there, b"", method="GET", path="/")
        page = response.body.decode()
        assert response.fields["content-type"] == "text/html; charset=utf-8"
        assert response.fields["content-security-policy"].startswith("default-src 'none'")
        assert '<meta name="viewport" content="width=device-width">' in page
        for text in (
            "addtogether",
            "quadratic",
            "Return the repr() rendering of the arg.",
            "(a: float, b: float, c: float)",
        ):
            assert text in page
        assert "ServerProxy(&quot;http://localhost/&quot;)" in page
        assert post(there, b"", method="HEAD", path="/").body == b""


def test_nothing_on_the_page_is_markup_but_ours() -> None:
    def knight(name: str = "<b>", where: Any = Path("/etc/secret")) -> "Any":  # noqa: UP037
        """Is <script>alert(1)</script> & more."""

    server = stream_server("loop", XMLRPCServer)(("127.0.0.1", 80), XMLRPCRequestHandler, bind_and_activate=False)
    server.documents, server.about, server.title = True, "<i>", "</title>"  # type: ignore[attr-defined]
    server.register_function(knight, "<u>")  # type: ignore[attr-defined]
    with visit_server(server) as there:
        page = post(there, b"", method="GET").body.decode()
        for markup in ("<b>", "<script", "<i>", "<u>", "</title></title>", "/etc/secret"):
            assert markup not in page


class Mine(XMLRPCRequestHandler):
    """A handler with overridden methods."""

    rpc_paths = ("/mine",)

    def _dispatch(self, method: str, params: tuple[Any, ...]) -> list[Any]:
        return [method, *params, self.client_address[0]]


def test_a_handler_of_ones_own_and_a_path_for_each_dispatcher() -> None:
    server: Any = stream_server("loop", XMLRPCServer)(("127.0.0.1", 80), Mine, bind_and_activate=False)
    with visit_server(server) as there:
        assert loaded(post(there, ADD, path="/mine").body) == ["add", 3, 5, "192.0.2.7"]
        assert post(there, ADD).status == 404
        assert post(there, b"", method="GET", path="/mine").status == 405

    class Two(XMLRPCRequestHandler):
        rpc_paths = ("/a", "/b", "/c", "/d")

    class Broken:
        def _marshaled_dispatch(self, data: bytes, dispatch_method: Any = None, path: Any = None) -> bytes:
            raise RuntimeError("a secret")

    server = stream_server("loop", MultiPathXMLRPCServer)(("127.0.0.1", 80), Two, bind_and_activate=False)
    for path, found in (("/a", dispatcher(daemons.adder)), ("/b", dispatcher(daemons.calc)), ("/d", Broken())):
        assert server.add_dispatcher(path, found) is server.get_dispatcher(path)
    with visit_server(server) as there:
        divide = xmlrpc.client.dumps((7, 3), "divide").encode()
        assert loaded(post(there, divide, path="/b").body) == 2
        for path, text in (
            ("/a", "is not supported"),
            ("/c", "no methods are published at this path"),
            ("/d", "/d failed"),
        ):
            with pytest.raises(xmlrpc.client.Fault, match=text):
                loaded(post(there, divide, path=path).body)


def test_a_pipeline_is_answered_in_order() -> None:
    with visit(daemons.adder) as there:
        bodies = [xmlrpc.client.dumps((n, n), "add").encode() for n in range(50)]
        octets = b"".join(map(request, bodies))
        heard = responses(b"".join(said(there, octets[at : at + 7]) for at in range(0, len(octets), 7)))
        assert [loaded(each.body) for each in heard] == [2 * n for n in range(50)]
