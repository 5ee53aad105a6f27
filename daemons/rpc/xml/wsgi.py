"""XML-RPC as a WSGI application (PEP 3333), for a URL within a web site.

from daemons.rpc.xml.wsgi import RPC, dispatcher
import sums

rpc = RPC({"/rpc": dispatcher(sums)})

def site(environ, start_response):
    if environ["PATH_INFO"] in rpc:
        return rpc(environ, start_response)
    ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from types import ModuleType
from typing import Any

from daemons.accounts import Accounts
from daemons.rpc.methods import Methods
from daemons.rpc.refusals import PEER, RefusalError, check_access, decompress, read_body
from daemons.rpc.xml.dispatcher import Dispatcher
from daemons.rpc.xml.documentation import POLICY, page


def dispatcher(origin: ModuleType | object) -> Dispatcher:
    """Return a dispatcher that publishes the methods of `origin`, with introspection and multicall, and with None,
    datetime and bytes as values.  Raises as `Methods.of`."""
    made = Dispatcher(allow_none=True, use_builtin_types=True)
    made.publish(Methods.of(origin).values())
    made.register_introspection_functions()
    made.register_multicall_functions()
    return made


class RPC(Mapping[str, Dispatcher]):
    """WSGI application.  POST is a call, GET returns the documentation page, unknown paths are 404.

    Args:
        dispatchers: the dispatchers by PATH_INFO.
        users: accounts that may call; None allows every peer.
        body: maximum bytes of a call, compressed and decompressed."""

    def __init__(
        self,
        dispatchers: Mapping[str, Dispatcher],
        *,
        title: str = "XML-RPC",
        users: Accounts | None = None,
        body: int = 1024**2,
    ) -> None:
        self._dispatchers = dict(dispatchers)
        self._title = title
        self._users = users
        self._body = body

    def __getitem__(self, path: str) -> Dispatcher:
        return self._dispatchers[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dispatchers)

    def __len__(self) -> int:
        return len(self._dispatchers)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        fields: tuple[tuple[str, str], ...]
        try:
            status, media, body, fields = 200, *self._answer(environ)
        except RefusalError as error:
            status, media, body, fields = error.status, "text/plain; charset=utf-8", error.body, error.fields
        head = [("Content-Type", media), ("Content-Length", str(len(body))), *fields]
        start_response(f"{status} {HTTPStatus(status).phrase}", head)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, bytes, tuple[tuple[str, str], ...]]:
        """Return Content-Type, body and further fields.  Raises `RefusalError`."""
        path = environ.get("PATH_INFO", "")
        found = self._dispatchers.get(path)
        if found is None:
            raise RefusalError(404, "Not Found: no resource at this path.")
        fields = {key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key[:5] == "HTTP_"}
        check_access({**fields, PEER: environ.get("REMOTE_ADDR", "")}, self._users, self._title)
        match environ["REQUEST_METHOD"]:
            case "POST":
                return "text/xml", found._marshaled_dispatch(self._read(environ), None, path), ()
            case "GET" | "HEAD":
                host = fields.get("host", environ.get("SERVER_NAME", "localhost"))
                where = f"{environ['wsgi.url_scheme']}://{host}{environ.get('SCRIPT_NAME', '')}{path}"
                document = page(self._title, "", where, found.published())
                return "text/html; charset=utf-8", document, (("Content-Security-Policy", POLICY),)
        raise RefusalError(405, "Method Not Allowed: calls are sent by POST.", ("Allow", "GET, HEAD, POST"))

    def _read(self, environ: dict[str, Any]) -> bytes:
        data = read_body(environ, self._body)
        match environ.get("HTTP_CONTENT_ENCODING", "identity").lower():
            case "identity":
                return data
            case "gzip":
                return decompress(data, self._body)
        raise RefusalError(501, "Not Implemented: the content coding is neither gzip nor identity.")
