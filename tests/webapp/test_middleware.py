"""Each middleware by itself, with PEP 3333 checked on both sides."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator

import pytest

from daemons.webapp.base64_form import base64_form
from daemons.webapp.bottle_form import bottle_form
from daemons.webapp.middleware import (
    Authenticated,
    BehindProxies,
    CaseSensitive,
    ForHosts,
    MethodOverride,
    Recorded,
    Secured,
    Themed,
)
from daemons.webapp.sessions import SESSION
from tests.webapp.visitor import Visitor


class Anybody:
    user = "sam"

    def is_current(self, stored: str) -> bool:
        return stored == self.user


def told(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Application that returns the method and the user of the request."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Security-Policy", "default-src *")])
    return [f"{environ['REQUEST_METHOD']} {environ.get('REMOTE_USER')}".encode()]


def around(middleware: Callable[[Any], Any], application: Any = told) -> Visitor:
    return Visitor(middleware(validator(application)))


@pytest.mark.parametrize(
    "middleware",
    [Recorded, Secured, CaseSensitive, lambda app: ForHosts(app, ()), MethodOverride, Authenticated, Themed],
    ids=["recorded", "secured", "case", "hosts", "override", "authenticated", "themed"],
)
@pytest.mark.parametrize("application", [base64_form, bottle_form])
def test_middleware_leaves_plain_responses_unchanged(middleware: Any, application: Any) -> None:
    alone, behind = Visitor(application), around(middleware, application)
    for path in ("/", "/encode?mystring=Camelot", "/encode", "/nowhere"):
        for method in ("GET", "HEAD", "POST"):
            expected = alone.open(path, method=method)
            heard = behind.open(path, method=method, environ_overrides={SESSION: Anybody()})
            assert heard.status == expected.status
            assert heard.mimetype == expected.mimetype
            if middleware is not Themed:
                assert heard.data == expected.data


def test_the_theme_is_put_into_pages_and_nothing_is_taken_out() -> None:
    plain = Visitor(base64_form).get("/").text
    themed = around(Themed, base64_form).get("/")
    before, _, rest = themed.text.partition('<meta charset="utf-8">')
    head, _, rest = rest.partition("<title>")
    _, _, body = rest.partition("</header>")
    assert "/static/style.css" in head
    assert plain.startswith(before)
    assert plain.endswith(body)
    assert themed.content_length == len(themed.data)


def test_request_is_logged_at_debug_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "daemons.webapp"):
        around(Recorded).get("/a%0ab?q")
    (record,) = caplog.records
    # The formatter escapes it, as everything.
    assert re.fullmatch(r"GET /a\nb 200 seconds=\d+\.\d{3}", record.getMessage())


def test_security_fields_are_added_unless_set() -> None:
    headers = around(Secured).get("/").headers
    assert headers.getlist("Content-Security-Policy") == ["default-src *"]
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("hosts", "host", "status"),
    [
        ((), "whatever.example", 200),
        (("localhost", "127.0.0.1"), "localhost:8001", 200),
        (("localhost", "127.0.0.1"), "LOCALHOST", 200),
        (("localhost", "127.0.0.1"), "evil.example", 404),
        (("::1",), "[::1]:8001", 200),
        (("::1",), "[::2]:8001", 404),
    ],
)
def test_which_hosts_are_answered_for(hosts: tuple[str, ...], host: str, status: int) -> None:
    response = around(lambda app: ForHosts(app, hosts)).get("/", headers={"Host": host})
    assert response.status_code == status
    assert "evil" not in response.text


@pytest.mark.parametrize(
    ("method", "wanted", "heard"),
    [("POST", "DELETE", "DELETE"), ("POST", "put", "PUT"), ("POST", "GET", "POST"), ("GET", "DELETE", "GET")],
)
def test_a_post_may_be_another_method_and_nothing_else_may(method: str, wanted: str, heard: str) -> None:
    response = around(MethodOverride).open("/", method=method, headers={"X-HTTP-Method-Override": wanted})
    assert response.text == f"{heard} None"


def test_remote_user_is_the_logged_in_user_only() -> None:
    client = around(Authenticated)
    assert client.get("/", environ_overrides={SESSION: Anybody(), "REMOTE_USER": "root"}).text == "GET sam"
    anonymous = Anybody()
    anonymous.user = ""
    assert client.get("/", environ_overrides={SESSION: anonymous, "REMOTE_USER": "root"}).text == "GET None"


@pytest.mark.parametrize(
    ("peer", "field", "expected"),
    [
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "6.6.6.6, 2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "6.6.6.6,", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("", "198.51.100.7", "198.51.100.7"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
    ],
)
def test_address_is_taken_from_a_proxy_that_is_named(peer: str, field: str, expected: str) -> None:
    def show(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["REMOTE_ADDR"].encode()]

    visitor = around(lambda application: BehindProxies(application, ("127.0.0.1", "unix")), show)
    found = visitor.get("/", headers={"X-Forwarded-For": field}, environ_overrides={"REMOTE_ADDR": peer})
    assert found.text == expected
