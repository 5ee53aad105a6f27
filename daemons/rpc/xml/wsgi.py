"""XML-RPC as a WSGI application (PEP 3333), so that it has a URL beneath a web site's own.

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
from daemons.rpc.refusals import PEER, RefusalError, check_visitor, read_body, unpacked
from daemons.rpc.xml.dispatcher import Dispatcher
from daemons.rpc.xml.documentation import POLICY, page


def dispatcher(origin: ModuleType | object) -> Dispatcher:
    """A dispatcher of what `origin` publishes, as `Methods.of`, with introspection and multicall; None, dates and
    octets come as Python has them.  Raises as `Methods.of`."""
    made = Dispatcher(allow_none=True, use_builtin_types=True)
    made.publish(Methods.of(origin).values())
    made.register_introspection_functions()
    made.register_multicall_functions()
    return made


class RPC(Mapping[str, Dispatcher]):
    """The application.  `dispatchers` are by path, as in PATH_INFO.  POST is a call, GET a page for people, other paths
    are 404.  `users` may call, None: everybody; `body` is the most octets of a call, also unpacked."""

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
        """Content-Type, body and other fields.  Raises `RefusalError`."""
        path = environ.get("PATH_INFO", "")
        found = self._dispatchers.get(path)
        if found is None:
            raise RefusalError(404, "No such page")
        said = {key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key[:5] == "HTTP_"}
        check_visitor({**said, PEER: environ.get("REMOTE_ADDR", "")}, self._users, self._title)
        match environ["REQUEST_METHOD"]:
            case "POST":
                return "text/xml", found._marshaled_dispatch(self._read(environ), None, path), ()
            case "GET" | "HEAD":
                host = said.get("host", environ.get("SERVER_NAME", "localhost"))
                where = f"{environ['wsgi.url_scheme']}://{host}{environ.get('SCRIPT_NAME', '')}{path}"
                shown = page(self._title, "", where, found.published())
                return "text/html; charset=utf-8", shown, (("Content-Security-Policy", POLICY),)
        raise RefusalError(405, "Calls are sent by POST.", ("Allow", "GET, HEAD, POST"))

    def _read(self, environ: dict[str, Any]) -> bytes:
        data = read_body(environ, self._body)
        match environ.get("HTTP_CONTENT_ENCODING", "identity").lower():
            case "identity":
                return data
            case "gzip":
                return unpacked(data, self._body)
        raise RefusalError(501, "That encoding is not known; gzip is.")
