"""The environ of WSGI applications, and the setting `wsgi`."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from daemons.operating.loading.targets import target_of
from daemons.serving.pump import Pump
from daemons.settings.complaints import ConfigurationError
from daemons.web.handlers.server import WebServer
from daemons.web.wsgi.environ import connection_environ
from daemons.web.wsgi.service import WSGIService
from tests.operating.folder import Folder
from tests.web import applications
from tests.web.applications import PLAIN, Environ, Start
from tests.web.wsgi_talking import carried, get, said, visit


def environ_of(sent: bytes, **more: Any) -> Environ:
    seen: list[Environ] = []

    def look(environ: Environ, start: Start) -> list[bytes]:
        seen.append(dict(environ))
        environ.clear()  # it may be changed
        start("200 OK", PLAIN)
        return []

    with visit(look, **more) as conversation:
        said(conversation, sent, sent)
    assert {**seen[0], "wsgi.input": 0} == {**seen[1], "wsgi.input": 0}
    return seen[0]


def test_environ_of_a_post_request() -> None:
    fields = ("Content-Type: text/x", "X-A: 1", "X-A: 2", "Cookie: a=b", "Cookie: c=d", "x_a: 3", "Proxy: http://evil")
    environ = environ_of(get("caf%C3%A9/%2F%FF?a=%20&b?", *fields, "Content-Length: 1", method="POST") + b"x")
    assert environ.pop("wsgi.input").read() == b"x"
    assert hasattr(environ.pop("wsgi.errors"), "writelines")
    assert callable(environ.pop("wsgi.file_wrapper"))
    assert environ.pop("SERVER_SOFTWARE") == "camelot"
    assert environ == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\xc3\xa9//\xff",
        "QUERY_STRING": "a=%20&b?",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "1",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8001",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "4242",
        "HTTP_HOST": "localhost",
        "HTTP_X_A": "1, 2",
        "HTTP_COOKIE": "a=b; c=d",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def test_the_environ_of_other_requests() -> None:
    chunked = get("", "Transfer-Encoding: chunked", "Trailer: X", method="POST") + b"1\r\na\r\n0\r\nX: y\r\n\r\n"
    environ = environ_of(chunked)
    assert environ["CONTENT_LENGTH"] == "1"
    assert [key for key in environ if key.startswith("HTTP_")] == ["HTTP_HOST"]
    environ = environ_of(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", multithread=False, multiprocess=False)
    assert environ["PATH_INFO"] == ""
    assert "CONTENT_LENGTH" not in environ
    assert not environ["wsgi.multithread"]
    assert not environ["wsgi.multiprocess"]
    environ = environ_of(b"GET http://b:9/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [environ[key] for key in ("PATH_INFO", "QUERY_STRING", "HTTP_HOST")] == ["/x", "y", "b:9"]


@pytest.mark.parametrize(
    ("listener", "tls", "address", "expected"),
    [
        (("::1", 8001), False, ("::1", 9, 0, 0), ("http", "[::1]", "8001", "::1", "9")),
        (("127.0.0.1", 8001), True, ("192.0.2.7", 9), ("https", "127.0.0.1", "8001", "192.0.2.7", "9")),
        ("/nowhere", False, ("unix:pid=1,uid=0", 0), ("http", "localhost", "80", "", "")),
    ],
)
def test_environ_has_the_addresses_of_the_connection(
    listener: Any, tls: bool, address: Any, expected: tuple[str, ...]
) -> None:
    with WebServer(listener, carried(applications.page), bind_and_activate=False) as server:
        server.tls = object() if tls else None  # type: ignore[assignment]  # it is only asked whether there is one
        environ = connection_environ(server, address, "unix:pid=1,uid=0")
    names = ("wsgi.url_scheme", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT")
    assert tuple(environ[name] for name in names) == expected


def test_lines_of_wsgi_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with visit() as conversation, caplog.at_level(logging.ERROR, "daemons.web"):
        said(conversation, get("complain"))
        assert caplog.messages == ["192.0.2.7:4242: a line", "192.0.2.7:4242: and another"]
        said(conversation, get("whole, too much"))
        assert caplog.messages[2] == "192.0.2.7:4242: page: Content-Length is 3, but the body has 4 bytes"


# --- settings in the ini ---------------------------------------------------------------------------

APPLICATION = """
    number = 1

    def application(environ, start_response):
        start_response("200 OK", [])
        return []

    from daemons import Lines, Service

    class Spoken(Service):
        framing = Lines(limit=10)
"""


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("wsgi = pages", "[daemon] wsgi = pages: write module:NAME, for the application NAME in that module"),
        ("wsgi = pages:aplication", "[daemon] wsgi = pages:aplication: pages has no aplication; did you mean applicat"),
        ("wsgi = pages:number", "[daemon] wsgi = pages:number: number is not callable; a WSGI application is, PEP"),
        ("wsgi = pages:Spoken", "Spoken is no WSGI application; write service = pages:Spoken"),
        ("wsgi = none:app", "[daemon] wsgi = none:app: there is no module none in "),
        ("wsgi = pages:application\nhandler = a:B", "[daemon] wsgi: there is a handler too; write only one of the two"),
        ("wsgi = pages:application\nservice = zen", "[daemon] wsgi: there is a service too; write only one of the two"),
        ("wsgi = pages:application\n[application]\na = b", "[application] a: application has no options"),
        ("wsgi = pages:application\nlisten = udp://[::1]:1", "HTTP does not run over UDP; write listen = tcp://"),
    ],
)
def test_invalid_wsgi_setting_is_refused(folder: Folder, said: str, complaint: str) -> None:
    folder.module("pages", APPLICATION)
    where = "" if "listen" in said else "port = 1\n"
    folder.write("x", f"[daemon]\n{where}{said}\n")
    with pytest.raises(ConfigurationError) as raised:
        target_of(folder.read()).request_handlers()
    (found,) = raised.value.complaints
    assert found.startswith("conf/x.ini [")
    assert complaint in found


@pytest.mark.parametrize(
    ("engine", "processes", "multithread", "multiprocess"),
    [("threads", 1, True, False), ("pool", 2, True, True), ("loop", 1, False, False), ("forks", 1, False, True)],
)
def test_application_of_an_ini_is_served(
    folder: Folder, engine: str, processes: int, multithread: bool, multiprocess: bool
) -> None:
    folder.module("pages", APPLICATION)
    folder.write("x", f"[daemon]\nwsgi = pages:application\nport = 1\nengine = {engine}\nprocesses = {processes}\n")
    handlers = target_of(folder.read("daemon.service=zen", "daemon.wsgi=pages:application")).request_handlers()
    assert handlers.server_class is WebServer
    handler = handlers.stream
    assert issubclass(handler, Pump)
    service = handler.service
    assert isinstance(service, WSGIService)
    assert type(service).__name__ == "application"
    assert (service.multithread, service.multiprocess) == (multithread, multiprocess)
