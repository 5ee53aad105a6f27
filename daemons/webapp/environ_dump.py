"""All that an application is told of a request: the environ of PEP 3333, without what is nobody else's business."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from daemons.webapp.dispatch import Form, Pages
from daemons.webapp.rendering import render

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: What belongs to a request.  Started as CGI, a program finds whatever else its environment has in there too.
TOLD = re.compile(
    r"(HTTP|wsgi|SERVER|REMOTE)[_.]\w+|REQUEST_(METHOD|SCHEME)|SCRIPT_NAME|PATH_INFO|QUERY_STRING|CONTENT_(TYPE|LENGTH)"
    r"|GATEWAY_INTERFACE"
)

#: What proves who somebody is.
SECRET = re.compile(r"COOKIE|AUTH|TOKEN|KEY|SECRET|PASS|SESSION|CREDENTIAL|REMOTE_USER")

FILTERED = "(filtered)"


def told(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    """The names and what they stand for, in order.  Of an object its type is told."""
    rows = []
    for name in sorted(filter(TOLD.fullmatch, environ)):
        value = environ[name]
        plain = isinstance(value, (str, int, tuple))
        text = repr(value) if plain else f"<{type(value).__module__}.{type(value).__qualname__}>"
        rows.append((name, FILTERED if SECRET.search(name) else text))
    return rows


def dump(request: Form) -> Response:
    """As text, or for a browser, which asks for that, as a page."""
    rows = told(request.environ)
    if request.accept_mimetypes.best_match(["text/plain", "text/html"]) == "text/html":
        response = render(request, "environ.html", rows=rows)
    else:
        response = Response("".join(f"{name} = {text}\n" for name, text in rows), mimetype="text/plain")
    response.headers["Vary"] = "Accept"
    return response


pages = Pages({"/": {"GET": dump}})
