"""JSON-RPC over HTTP and as lines, and the ini that publishes a module, without sockets."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from daemons import jsonrpc
from daemons.operating.loading.targets import target_of
from daemons.rpc.json import schema
from daemons.rpc.json.service import JSONRPC, LONGEST
from daemons.rpc.methods import Methods
from daemons.rpc.users import line_for
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.conversation.endings import Ending
from daemons.serving.conversation.states import IDLE, OVER
from daemons.settings.complaints import ConfigurationError
from tests.operating.conftest import folder  # noqa: F401
from tests.operating.folder import Folder
from tests.rpc.json.test_calls import Various
from tests.web.talking import Response, get, responses, said

LENGTHS = JSONRPC.of(jsonrpc, "jsonrpc")

CALL = b'{"jsonrpc":"2.0","method":"lengths","params":["abc"],"id":1}'
ANSWER = b'{"jsonrpc":"2.0","result":[[3,"abc"]],"id":1}'
SILENT = b'{"jsonrpc":"2.0","method":"lengths","params":["abc"]}'
PARSE_ERROR = b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null}'


def visit(octets: bytes, size: int = 10**6, **options: Any) -> tuple[bytes, Conversation]:
    """Return the output for `octets` received in pieces of `size`, and the conversation."""
    conversation = Conversation(LENGTHS(LENGTHS.Options(**options)))
    assert conversation.open() == b""
    heard = said(conversation, *(octets[start : start + size] for start in range(0, len(octets), size)))
    conversation.close()
    assert conversation.failure is None
    return heard, conversation


def post(*fields: str, path: str = "/", method: str = "POST", body: bytes = CALL, **options: Any) -> Response:
    """Return the only response to a request."""
    (response,) = responses(visit(get(path, *fields, method=method, body=body), **options)[0], [method])
    return response


@pytest.mark.parametrize("size", [10**6, 1])
def test_calls_over_http_are_answered_in_their_order(size: int) -> None:
    one = get("/", "Content-Type: application/json; charset=utf-8", method="POST", body=CALL)
    none = get("/", method="POST", body=SILENT)
    wrong = get("/", method="POST", body=CALL[:-1])
    heard, conversation = visit(one + none + wrong + one, size)
    assert conversation.state == IDLE
    found = responses(heard)
    assert [(each.status, each.body) for each in found] == [
        (200, ANSWER),
        (204, b""),
        (200, PARSE_ERROR),
        (200, ANSWER),
    ]
    assert found[0].fields["content-type"] == "application/json"
    assert found[0].fields["x-content-type-options"] == "nosniff"
    assert "content-type" not in found[1].fields


@pytest.mark.parametrize("fields", [["Connection: close"], ["Connection: close", "Expect: 100-continue"]])
def test_connection_is_closed_at_the_clients_request(fields: list[str]) -> None:
    octets = get("/", *fields, method="POST", body=CALL)
    head, _, body = octets.partition(b"\r\n\r\n")
    conversation = Conversation(LENGTHS())
    conversation.open()
    heard = responses(said(conversation, head + b"\r\n\r\n", body))
    assert conversation.ending is Ending.FINISHED
    assert heard[-1].fields["connection"] == "close"
    assert heard[-1].body == ANSWER
    assert [each.status for each in heard[:-1]] == [100] * (len(fields) - 1)


def test_http_1_0_is_answered_too() -> None:
    heard, conversation = visit(get("/", method="POST", version="1.0", body=CALL))
    assert responses(heard)[0].body == ANSWER
    assert conversation.state == OVER


@pytest.mark.parametrize(
    ("status", "method", "path", "fields"),
    [
        (404, "POST", "/RPC2", []),
        (404, "GET", "/index.html", []),
        (405, "PUT", "/", []),
        (405, "OPTIONS", "/", []),
        (415, "POST", "/", ["Content-Type: text/plain"]),
        (415, "POST", "/", ["Content-Type: application/json", "Content-Encoding: gzip"]),
        (403, "POST", "/", ["Content-Type: application/x-www-form-urlencoded", "Origin: http://elsewhere.example"]),
        (200, "POST", "/", ["Origin: http://localhost"]),
        (403, "POST", "http://rebound.example:7002/", ["Origin: http://rebound.example:7002"]),
        (200, "POST", "http://[::1]:7002/", ["Origin: http://[::1]:7002"]),
        (200, "POST", "/?a=b", ["Content-Type: application/x-www-form-urlencoded"]),
        (200, "POST", "/", ["Content-Type: application/json-rpc"]),
    ],
)
def test_request_that_is_not_a_call_is_refused(status: int, method: str, path: str, fields: list[str]) -> None:
    response = post(*fields, path=path, method=method)
    assert response.status == status
    assert (response.fields.get("allow") == "GET, HEAD, POST") is (status == 405)
    assert b"abc" not in response.body or status == 200


def test_unknown_user_may_not_call(folder: Folder) -> None:  # noqa: F811
    secret, line = line_for("robin")
    folder.write("x", "[daemon]\njsonrpc = daemons.jsonrpc\nport = 1\n[jsonrpc]\nusers = users\n")
    path = folder.path / "users"
    path.write_text(line)
    path.chmod(0o600)
    pump: Any = target_of(folder.read()).request_handlers().stream
    known = base64.b64encode(f"robin:{secret}".encode()).decode()
    for fields, status in (([], 401), (["Authorization: Basic x"], 401), ([f"Authorization: Basic {known}"], 200)):
        conversation = Conversation(pump.service, pump.binding)
        conversation.open()
        (response,) = responses(said(conversation, get("/", *fields, method="POST", body=CALL)))
        assert response.status == status
        assert ("www-authenticate" in response.fields) is (status == 401)
        conversation.close()
    for key, why in (("jsonrpc.framing=lines", "write framing = http"), ("daemon.host=0.0.0.0", "in the clear")):
        with pytest.raises(ConfigurationError, match=why):
            target_of(folder.read(key, "daemon.public=yes")).request_handlers()


def test_a_body_that_is_too_long_is_refused() -> None:
    heard, conversation = visit(get("/", method="POST", body=b"x" * (LONGEST + 1)))
    assert responses(heard)[0].status == 413
    assert conversation.ending is Ending.OVERSIZE


def test_get_returns_the_openrpc_document() -> None:
    response = post(method="GET", body=b"")
    assert response.fields["content-type"] == "application/json"
    document = json.loads(response.body)
    assert document["info"] == {"title": "jsonrpc", "version": "1", "description": jsonrpc.__doc__.partition("\n")[0]}
    assert [method["name"] for method in document["methods"]] == ["lengths"]
    discovered = json.loads(post(body=b'{"jsonrpc":"2.0","method":"rpc.discover","id":1}').body)
    assert discovered["result"] == document
    head = post(method="HEAD", body=b"")
    assert head.fields["content-length"] == str(len(response.body))
    assert head.body == b""


def test_openrpc_document_can_be_disabled() -> None:
    assert post(method="GET", body=b"", discover=False).status == 405
    asked = json.loads(post(body=b'{"jsonrpc":"2.0","method":"rpc.discover","id":1}', discover=False).body)
    assert asked["error"]["code"] == -32601


def test_openrpc_document_contains_the_annotations() -> None:
    document = schema.document("x", "", "1", Methods.of(Various()).values())
    typed = next(each for each in document["methods"] if each["name"] == "typed")
    assert typed["params"] == [
        {"name": "number", "required": True, "schema": {"type": "integer"}},
        {"name": "share", "required": False, "schema": {"type": "number"}},
        {"name": "names", "required": False, "schema": {"type": "string"}, "x-repeated": True},
    ]
    assert (typed["summary"], typed["paramStructure"]) == ("Three kinds of parameters.", "by-position")
    optional = next(each for each in document["methods"] if each["name"] == "optional")
    assert optional["params"][0]["schema"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert optional["params"][1]["schema"] == {"enum": ["a", "b"]}
    assert optional["result"]["schema"] == {"type": "boolean"}
    assert schema.schema_of(dict[str, list[int]]) == {
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"type": "integer"}},
    }


@pytest.mark.parametrize("size", [10**6, 1])
def test_calls_come_one_a_line(size: int) -> None:
    heard, conversation = visit(CALL + b"\r\n" + SILENT + b"\n" + b"[" + CALL + b"]\n{\n", size, framing="lines")
    assert heard == ANSWER + b"\n[" + ANSWER + b"]\n" + PARSE_ERROR + b"\n"
    assert conversation.state == IDLE


def test_a_line_that_is_too_long_is_the_last() -> None:
    heard, conversation = visit(CALL + b"\n" + b"[" * (LONGEST + 1), framing="lines")
    assert heard == ANSWER + b"\n" + PARSE_ERROR + b"\n"
    assert conversation.ending is Ending.OVERSIZE


def test_a_form_that_a_browser_posts_to_where_calls_come_one_a_line_calls_nothing() -> None:
    heard, conversation = visit(get("/", method="POST", body=CALL + b"\r\n") + CALL + b"\n", framing="lines")
    assert heard == PARSE_ERROR + b"\n"
    assert (conversation.state, conversation.ending) == (OVER, Ending.FINISHED)


MODULE = """
    '''Sings.'''

    __all__ = ["sing"]
    __version__ = "2.1"

    def sing(verse: int) -> str:
        '''One verse.'''
        return "la" * verse

    class Choir:
        def hum(self) -> str:
            return "mm"

    choir = Choir()
"""


@pytest.mark.parametrize(("origin", "method", "version"), [("songs", "sing", "2.1"), ("songs:choir", "hum", "1")])
def test_an_ini_publishes_a_module_or_an_object(origin: str, method: str, version: str, folder: Folder) -> None:  # noqa: F811
    folder.module("songs", MODULE)
    folder.write("x", f"[daemon]\njsonrpc = {origin}\nport = 1\nengine = loop\n[jsonrpc]\nframing = lines\n")
    pump: Any = target_of(folder.read()).request_handlers().stream
    conversation = Conversation(pump.service, pump.binding)
    conversation.open()
    heard = json.loads(conversation.receive(b'{"jsonrpc":"2.0","method":"rpc.discover","id":1}\n'))
    conversation.close()
    assert [each["name"] for each in heard["result"]["methods"]] == [method]
    assert heard["result"]["info"]["version"] == version


@pytest.mark.parametrize(
    ("said_there", "complaint"),
    [
        ("jsonrpc = songs:", "[daemon] jsonrpc = songs:: write module, for the functions in its __all__"),
        ("jsonrpc = songs:coir", "songs has no coir; did you mean choir?"),
        ("jsonrpc = songs:Choir", "Choir is a class; publish an instance of it"),
        ("jsonrpc = songs\nrpc = songs", "there is a rpc too; write only one of the two"),
        ("jsonrpc = songs\nlisten = udp://[::1]:1", "JSON-RPC does not run over UDP; write listen = tcp://"),
        ("jsonrpc = songs\n[jsonrpc]\nframing = line", "[jsonrpc] framing = line: "),
        ("jsonrpc = songs\n[jsonrpc]\npath = rpc", "not the path of a URL; write / or /rpc"),
        ("jsonrpc = songs\n[jsonrpc]\nbatches = 3", "no such setting; did you mean batch?"),
    ],
)
def test_invalid_ini_is_refused(said_there: str, complaint: str, folder: Folder) -> None:  # noqa: F811
    folder.module("songs", MODULE)
    where = "" if "listen" in said_there else "port = 1\n"
    folder.write("x", f"[daemon]\n{where}{said_there}\n")
    with pytest.raises(ConfigurationError) as raised:
        target_of(folder.read()).request_handlers()
    assert any(complaint in each for each in raised.value.complaints), raised.value.complaints
