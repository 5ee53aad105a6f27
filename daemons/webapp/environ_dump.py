"""Page that shows the WSGI environ (PEP 3333) of a request, without confidential values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from daemons.webapp.dispatch import Form, Pages
from daemons.webapp.rendering import render

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Keys that belong to a request.  Under CGI, the environ also contains the environment of the process.
SHOWN = re.compile(
    r"(HTTP|wsgi|SERVER|REMOTE)[_.]\w+|REQUEST_(METHOD|SCHEME)|SCRIPT_NAME|PATH_INFO|QUERY_STRING|CONTENT_(TYPE|LENGTH)"
    r"|GATEWAY_INTERFACE"
)

#: Keys of credentials.
SECRET = re.compile(r"COOKIE|AUTH|TOKEN|KEY|SECRET|PASS|SESSION|CREDENTIAL|REMOTE_USER")

FILTERED = "(filtered)"


def entries(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    """Return the keys and their values as text, sorted; for an object, its type."""
    rows = []
    for name in sorted(filter(SHOWN.fullmatch, environ)):
        value = environ[name]
        plain = isinstance(value, (str, int, tuple))
        text = repr(value) if plain else f"<{type(value).__module__}.{type(value).__qualname__}>"
        rows.append((name, FILTERED if SECRET.search(name) else text))
    return rows


def dump(request: Form) -> Response:
    """Return the environ as text, or as a page if the client prefers HTML."""
    rows = entries(request.environ)
    if request.accept_mimetypes.best_match(["text/plain", "text/html"]) == "text/html":
        response = render(request, "environ.html", rows=rows)
    else:
        response = Response("".join(f"{name} = {text}\n" for name, text in rows), mimetype="text/plain")
    response.headers["Vary"] = "Accept"
    return response


pages = Pages({"/": {"GET": dump}})
