"""JSON API: the functions of the HTML forms for programs, without a redirect after POST."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from werkzeug.exceptions import BadRequest, HTTPException, NotFound, UnsupportedMediaType
from werkzeug.wrappers import Response

from daemons.webapp.dispatch import Form, Pages
from daemons.webapp.weather import NAMES, weather_of


def _json(value: Any, status: int = 200) -> Response:
    # ASCII only: if a browser sniffs it as HTML, it contains no markup in other encodings.
    return Response(json.dumps(value) + "\n", status, mimetype="application/json")


def _error(request: Form, error: HTTPException) -> Response:
    return _json({"error": error.description}, error.code or 500)


pages = Pages(error=_error)


@pages.at("/base64", "POST")
def encode(request: Form) -> Response:
    """Return the base64 encoding of the UTF-8 text ``mystring`` in a JSON object, together with the text."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Content-Type: application/json is expected")
    try:
        asked = json.loads(request.get_data().decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadRequest("the body is not valid JSON") from None
    text = asked.get("mystring") if isinstance(asked, dict) else None
    if not isinstance(text, str) or not text:
        raise BadRequest('expected an object with a non-empty string "mystring"')
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest('"mystring" contains an unpaired surrogate') from None
    return _json({"mystring": text, "base64": b64encode(data).decode("ascii")})


@pages.at("/")
def index(request: Form) -> Response:
    """List the resources of the API."""
    return _json({"base64": "POST base64", "weather": "GET weather, GET weather/CITY"})


@pages.at("/weather")
def cities(request: Form) -> Response:
    """List the known cities."""
    return _json({"cities": NAMES})


@pages.at("/weather/<city>")
def weather(request: Form, city: str) -> Response:
    """Return the weather of a city."""
    found = weather_of(city)
    if found is None:
        raise NotFound("no weather station in this city")
    return _json({**found._asdict(), "temperature": found.temperature})
