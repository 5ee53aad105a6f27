"""The form of `daemons.webapp.base64_form` with Bottle: an application of another framework, mounted unchanged."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import bottle

TEMPLATES = [str(Path(__file__).parent / "templates")]

bottle_form = bottle.Bottle()


@bottle_form.route("/encode")
@bottle.view("bottle_template.html", template_lookup=TEMPLATES)
def encode() -> dict[str, Any]:
    """Return the input and its base64 encoding."""
    values = bottle.request.query.getall("mystring")
    # Bottle decodes as Latin-1, so this restores the bytes of the query.
    data = values[0].encode("latin-1") if values else b""
    if not data:
        bottle.abort(400, 'This form requires a "mystring" parameter')
    return {"mystring": data.decode("utf-8", "backslashreplace"), "myb": b64encode(data).decode("ascii")}


@bottle_form.route("/")
@bottle.view("bottle_template.html", template_lookup=TEMPLATES)
def index() -> dict[str, Any]:
    """Show the form."""
    return {"mystring": None}


@bottle_form.error(400)
def wrong(error: bottle.HTTPError) -> str:
    """Return the reason as text.  Bottle's own error page would repeat parts of the request."""
    bottle.response.content_type = "text/plain; charset=utf-8"
    return str(error.body)


@bottle_form.error(404)
@bottle_form.error(405)
def nothing(error: bottle.HTTPError) -> str:
    """Return the reason as text, as `wrong`."""
    bottle.response.content_type = "text/plain; charset=utf-8"
    return "That URL is not valid." if error.status_code == 404 else "This form does not support that method."
