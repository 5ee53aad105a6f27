"""Calls to published methods, without a socket."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from daemons.rpc.xml.publishing import Options, Published
from daemons.serving.connection import Connection
from daemons.serving.conversation.conversation import Conversation
from daemons.serving.engines import stream_server
from tests.web.talking import Response, responses, said


def server_for(origin: Any, title: str = "knights", engine: str = "loop", **options: Any) -> tuple[Any, Any]:
    """Return the handler that publishes `origin`, and its server class."""
    handler: Any = Published.of(origin, title).configured(Options(**options))
    return handler, stream_server(engine, handler.server_class)


@contextmanager
def visit(origin: Any, **options: Any) -> Iterator[Conversation]:
    """Open a conversation with a server that publishes `origin`."""
    handler, kind = server_for(origin, **options)
    with visit_server(kind(("127.0.0.1", 80), handler, bind_and_activate=False)) as conversation:
        yield conversation


@contextmanager
def visit_server(server: Any) -> Iterator[Conversation]:
    with server:
        conversation = server.make_conversation(Connection(server.socket, ("192.0.2.7", 4242), 1.0))
        assert conversation.open() == b""
        yield conversation
        conversation.close()


def request(body: bytes, *fields: str, path: str = "/RPC2", method: str = "POST", version: str = "1.1") -> bytes:
    """Return an HTTP request with a body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def post(conversation: Conversation, body: bytes, *fields: str, **more: Any) -> Response:
    """Return the response to one request."""
    (response,) = responses(said(conversation, request(body, *fields, **more)), [more.get("method", "POST")])
    return response


def call(conversation: Conversation, method: str, *parameters: Any) -> Any:
    """Return the result of a call.  Raises `xmlrpc.client.Fault`."""
    body = xmlrpc.client.dumps(parameters, method, allow_none=True).encode()
    response = post(conversation, body)
    assert (response.status, response.fields["content-type"]) == (200, "text/xml")
    return loaded(response.body)


def loaded(body: bytes) -> Any:
    return xmlrpc.client.loads(body, use_builtin_types=True)[0][0]
