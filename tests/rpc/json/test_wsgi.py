"""JSON-RPC within a web site: the WSGI application (PEP 3333)."""

from __future__ import annotations

import io
import json
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from daemons import jsonrpc
from daemons.rpc.json.wsgi import JSONApplication

CALL = b'{"jsonrpc":"2.0","method":"lengths","params":["abc"],"id":1}'
ANSWER = b'{"jsonrpc":"2.0","result":[[3,"abc"]],"id":1}'

APPLICATION = JSONApplication({"/jsonrpc": jsonrpc}, body=1000)


def ask(method: str = "POST", path: str = "/jsonrpc", body: bytes = CALL, **more: str) -> tuple[int, Any, bytes]:
    """Return status, fields and body of the response."""
    length = {"CONTENT_LENGTH": str(len(body))} if method == "POST" else {}
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, **length, "wsgi.input": io.BytesIO(body)}
    setup_testing_defaults(environ)
    environ |= {"QUERY_STRING": "", "SCRIPT_NAME": "", **more}
    heard: list[Any] = []
    result: Any = validator(APPLICATION)(environ, lambda status, fields, info=None: heard.append((status, fields)))  # type: ignore[arg-type]
    said = b"".join(result)
    result.close()
    return int(heard[0][0][:3]), dict(heard[0][1]), said


def test_calls_are_answered_beneath_a_site() -> None:
    status, fields, said = ask(CONTENT_TYPE="application/json")
    assert (status, fields["Content-Type"], said) == (200, "application/json", ANSWER)
    assert "/jsonrpc" in APPLICATION
    assert "/" not in APPLICATION
    assert ask(body=CALL.replace(b',"id":1', b""))[::2] == (204, b"")
    _, _, described = ask("GET")
    assert [each["name"] for each in json.loads(described)["methods"]] == ["lengths"]
    asked = json.loads(ask(body=b'{"jsonrpc":"2.0","method":"rpc.discover","id":1}')[2])
    assert asked["result"] == json.loads(described)


@pytest.mark.parametrize(
    ("status", "method", "more"),
    [
        (404, "POST", {"PATH_INFO": "/"}),
        (405, "PUT", {}),
        (415, "POST", {"CONTENT_TYPE": "text/html"}),
        (403, "POST", {"HTTP_ORIGIN": "http://elsewhere.example"}),
        (411, "POST", {"CONTENT_LENGTH": ""}),
        (413, "POST", {"CONTENT_LENGTH": "1001"}),
        (413, "POST", {"CONTENT_LENGTH": "9" * 50}),
        (400, "POST", {"CONTENT_LENGTH": "000000000999"}),
        (400, "POST", {"CONTENT_LENGTH": "999"}),
    ],
)
def test_request_that_is_not_a_call_is_refused(status: int, method: str, more: dict[str, Any]) -> None:
    assert ask(method, **more)[0] == status
