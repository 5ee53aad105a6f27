"""URL dispatch: table, decorator, and errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from daemons.webapp import Webapp
from daemons.webapp.dispatch import Form, Pages
from tests.webapp.visitor import Visitor


def _shown(text: str) -> Response:
    return Response(text, mimetype="text/plain")


pages = Pages(
    {
        "/": {"GET": lambda request: _shown("front")},
        "/knights/<name>": {"GET": lambda request, name: _shown(name)},
    }
)


@pages.at("/knights/<name>", "PUT", "DELETE")
def change(request: Form, name: str) -> Response:
    return _shown(f"{request.method} {name}")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow", "said"),
    [
        ("GET", "/", 200, None, "front"),
        ("HEAD", "/", 200, None, ""),
        ("GET", "/knights/Robin", 200, None, "Robin"),
        ("DELETE", "/knights/Robin", 200, None, "DELETE Robin"),
        ("POST", "/knights/Robin", 405, {"GET", "HEAD", "PUT", "DELETE"}, None),
        ("TRACE", "/", 405, {"GET", "HEAD"}, None),
        ("OPTIONS", "/knights/Robin", 204, {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}, ""),
        ("OPTIONS", "/nowhere", 404, None, None),
        ("GET", "/knights", 404, None, None),
        ("GET", "/knights/%3Cscript%3E/x", 404, None, None),
        ("GET", "//evil.example/..", 404, None, None),
    ],
)
def test_method_and_path_select_the_view(
    method: str, path: str, status: int, allow: set[str] | None, said: str | None
) -> None:
    response = Visitor(pages).open(path, method=method)
    assert response.status_code == status
    assert (set(response.allow) or None) == allow
    assert said in (None, response.text)
    assert "script" not in response.text
    assert "evil" not in response.text


def test_a_body_that_is_too_long_is_refused(visitor: Visitor) -> None:
    response = visitor.post("/zipcity.php", data={"inputstring": "x" * 70_000})
    assert response.status_code == 413
    assert "exceeds the size limit" in response.text


def test_static_files_and_nothing_beside_them(visitor: Visitor) -> None:
    style = visitor.get("/static/style.css")
    assert (style.status_code, style.mimetype) == (200, "text/css")
    assert visitor.get("/static/style.css", headers={"If-None-Match": style.headers["ETag"]}).status_code == 304
    assert visitor.get("/static/castle.svg").mimetype == "image/svg+xml"
    for path in ("../bank.py", "..%2fbank.py", "/etc/passwd", ""):
        assert visitor.get(f"/static/{path}").status_code == 404
    assert visitor.post("/static/style.css").status_code == 405


PAGES = ("/", "/bank/login", "/base64/", "/bottle/", "/weather", "/time/", "/environ/", "/api/weather")


@pytest.mark.parametrize("path", [*PAGES, "/rpc/", "/jsonrpc/", "/static/style.css"])
def test_method_in_small_letters_is_no_method(site: Callable[..., Webapp], path: str) -> None:
    """RFC 9110, section 9.1: methods are case-sensitive."""
    client = Client(site())
    assert client.get(path, buffered=True).status_code == 200
    for method in ("get", "Get", "head", "post", "options"):
        # In the environ, for the client writes methods in capitals.
        answer = client.open(path, environ_overrides={"REQUEST_METHOD": method})
        assert (answer.status_code, answer.text) == (501, "501 Not Implemented: methods are case-sensitive.\n")
