"""JSON-RPC as a WSGI application (PEP 3333), for a URL within a web site.

from daemons.rpc.json.wsgi import JSONApplication
import sums

jsonrpc = JSONApplication({"/jsonrpc": sums})

def site(environ, start_response):
    if environ["PATH_INFO"] in jsonrpc:
        return jsonrpc(environ, start_response)
    ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from types import ModuleType
from typing import Any

from daemons.accounts import Accounts
from daemons.rpc.json import codec
from daemons.rpc.json.calls import Calls
from daemons.rpc.json.schema import document
from daemons.rpc.json.service import DISCOVER, check_call
from daemons.rpc.methods import Method, Methods
from daemons.rpc.refusals import PEER, RefusalError, check_access, read_body


class JSONApplication:
    """WSGI application.  POST is a call or a batch, GET returns the OpenRPC document, unknown paths are 404.

    Args:
        origins: the modules or instances to publish, as in `Methods.of`, by PATH_INFO.
        users: accounts that may call; None allows every peer.
        body: maximum bytes of a call.

    Raises as `Methods.of`."""

    def __init__(
        self,
        origins: Mapping[str, ModuleType | object],
        *,
        title: str = "JSON-RPC",
        users: Accounts | None = None,
        body: int = 256 * 1024,
    ) -> None:
        self._calls = {path: _calls(Methods.of(origin), title) for path, origin in origins.items()}
        self._title = title
        self._users = users
        self._body = body

    def __contains__(self, path: object) -> bool:
        return path in self._calls

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        media, fields = "application/json", [("Cache-Control", "no-store")]
        try:
            answer = self._answer(environ)
            status, body = (204, b"") if answer is None else (200, answer.encode("ascii"))
        except RefusalError as error:
            status, media, body, fields = error.status, "text/plain; charset=utf-8", error.body, [*error.fields]
        if status != 204:
            fields += [("Content-Type", media), ("Content-Length", str(len(body)))]
        start_response(f"{status} {HTTPStatus(status).phrase}", fields)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: dict[str, Any]) -> str | None:
        """Return the response body, or None for notifications.  Raises `RefusalError`."""
        found = self._calls.get(environ.get("PATH_INFO", ""))
        if found is None:
            raise RefusalError(404, "Not Found: no resource at this path.")
        fields = {key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key[:5] == "HTTP_"}
        fields["content-type"] = environ.get("CONTENT_TYPE") or ""
        check_access({**fields, PEER: environ.get("REMOTE_ADDR", "")}, self._users, self._title)
        check_call(environ["REQUEST_METHOD"], fields, documents=True)
        calls, described = found
        return calls.answer(read_body(environ, self._body)) if environ["REQUEST_METHOD"] == "POST" else described


def _calls(methods: Methods, title: str) -> tuple[Calls, str]:
    """Return the dispatcher of `methods` and their OpenRPC document."""
    described = document(title, "", "1", methods.values())
    return Calls(Methods([*methods.values(), Method.of(lambda: described, DISCOVER)])), codec.write(described)
