"""Methods are case-sensitive, RFC 9110, section 9.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.web import example_site, talking, wsgi_talking
from tests.web.example_handlers import Hello
from tests.web.talking import get, responses, said

each_method = pytest.mark.parametrize("method", ["get", "Get", "geT", "head", "post", "options"])


@each_method
def test_other_case_is_another_method_to_a_handler(method: str) -> None:
    with talking.visit(Hello) as talk:
        assert [each.status for each in responses(said(talk, get("/", method=method)))] == [501]


@each_method
def test_other_case_is_another_method_to_httpd(method: str, tmp_path: Path) -> None:
    httpd = example_site.service(example_site.make(tmp_path), documents={"/notes": str(tmp_path / "notes")})
    for path in ("/", "/notes/", "/notes/x"):
        assert example_site.ask(httpd, path, method=method).status == 501


@each_method
def test_application_is_given_the_method_as_it_was_sent(method: str) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["REQUEST_METHOD"].encode()]

    with wsgi_talking.visit(application) as talk:
        assert responses(said(talk, get("/", method=method)))[0].body == method.encode()
