"""An httpd that forwards to an upstream server, and requests to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daemons.httpd import Httpd
from daemons.serving.conversation.peer import Peer
from daemons.web.gateway.upstream_address import UPSTREAM
from tests.web.example_site import LOCAL, make, request, send, service, talking
from tests.web.talking import Response, responses


def in_front(folder: Path, server: str, **options: Any) -> Httpd:
    return service(make(folder), proxy={"/app": UPSTREAM.parse(server)}, upstream_timeout=20.0, **options)


def fetch(httpd: Httpd, path: str, *fields: str, peer: Peer = LOCAL, **more: Any) -> Response:
    """Send one request, and return its response."""
    with talking(httpd, peer) as conversation:
        data = send(conversation, request(path, *fields, **more))
        assert conversation.failure is None
    (found,) = responses(data, [more.get("method", "GET")])
    return found
