"""XML-RPC within a WSGI application."""

from __future__ import annotations

import base64
import gzip
import xmlrpc.client
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

import daemons.adder
import daemons.calc
from daemons.accounts import Accounts
from daemons.rpc.xml.wsgi import RPC, dispatcher
from tests.accounts.files import write_secret
from tests.rpc.calling import loaded
from tests.web.wsgi_talking import said, visit

ADD = xmlrpc.client.dumps((3, 5), "add").encode()


def ask(rpc: RPC, method: str, path: str, body: bytes = b"", **more: str) -> tuple[str, dict[str, str], bytes]:
    """Return status, fields and body, checked as a strict server does."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": BytesIO(body)}
    environ |= {"CONTENT_LENGTH": str(len(body))} if body else {}
    setup_testing_defaults(environ)
    environ |= {"SCRIPT_NAME": "", "QUERY_STRING": "", **more}
    heard: list[Any] = []

    def start_response(status: str, fields: Any, exc_info: Any = None) -> Any:
        heard.extend([status, dict(fields)])
        return heard.append

    found: Any = validator(rpc)(environ, start_response)
    body = b"".join(found)
    found.close()
    return heard[0], heard[1], body


def test_each_path_has_its_dispatcher() -> None:
    rpc = RPC({"/rpc": dispatcher(daemons.adder), "/calc": dispatcher(daemons.calc)}, title="Sums")
    assert list(rpc) == ["/rpc", "/calc"]
    assert (len(rpc), "/rpc" in rpc, rpc["/calc"].published()["divide"].help[:7]) == (2, True, "Return ")
    status, fields, body = ask(rpc, "POST", "/rpc", ADD)
    assert (status, fields["Content-Type"], loaded(body)) == ("200 OK", "text/xml", 8)
    assert loaded(ask(rpc, "POST", "/calc", gzip.compress(ADD), HTTP_CONTENT_ENCODING="gzip")[2]) == 8
    status, fields, body = ask(rpc, "GET", "/rpc")
    assert (status, fields["Content-Type"]) == ("200 OK", "text/html; charset=utf-8")
    assert b"ServerProxy(&quot;http://127.0.0.1/rpc&quot;)" in body
    assert ask(rpc, "HEAD", "/rpc")[2] == b""


@pytest.mark.parametrize(
    ("method", "path", "body", "more", "status"),
    [
        ("POST", "/", ADD, {}, "404 Not Found"),
        ("PUT", "/rpc", b"", {}, "405 Method Not Allowed"),
        ("POST", "/rpc", b"", {}, "411 Length Required"),
        ("POST", "/rpc", b"x" * 1001, {}, "413"),
        ("POST", "/rpc", ADD, {"CONTENT_LENGTH": "1000"}, "400 Bad Request"),
        ("POST", "/rpc", ADD, {"HTTP_ORIGIN": "http://elsewhere"}, "403 Forbidden"),
        ("POST", "/rpc", ADD, {"HTTP_CONTENT_ENCODING": "br"}, "501 Not Implemented"),
        ("POST", "/rpc", ADD, {"HTTP_CONTENT_ENCODING": "gzip"}, "400 Bad Request"),
        ("POST", "/rpc", gzip.compress(b"x" * 1001, mtime=0), {"HTTP_CONTENT_ENCODING": "gzip"}, "413"),
    ],
)
def test_request_is_refused_with_its_status(
    method: str, path: str, body: bytes, more: dict[str, str], status: str
) -> None:
    rpc = RPC({"/rpc": dispatcher(daemons.adder)}, body=1000)
    assert ask(rpc, method, path, body, **more)[0].startswith(status)


def test_only_known_users_may_call(tmp_path: Path) -> None:
    secret = write_secret(tmp_path / "users")
    rpc = RPC({"/rpc": dispatcher(daemons.adder)}, users=Accounts(str(tmp_path / "users")))
    status, fields, _ = ask(rpc, "POST", "/rpc", ADD)
    assert (status, fields["WWW-Authenticate"]) == ("401 Unauthorized", 'Basic realm="XML-RPC", charset="UTF-8"')
    said = base64.b64encode(f"robin:{secret}".encode()).decode()
    assert loaded(ask(rpc, "POST", "/rpc", ADD, HTTP_AUTHORIZATION=f"Basic {said}")[2]) == 8


def test_under_our_own_server() -> None:
    with visit(RPC({"/rpc": dispatcher(daemons.adder)})) as there:
        asked = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(ADD), ADD)
        heard = said(there, asked)
        assert loaded(heard.partition(b"\r\n\r\n")[2]) == 8
