"""What the forms do, for programs: JSON instead of fields, and no redirect behind a POST."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from werkzeug.exceptions import BadRequest, HTTPException, NotFound, UnsupportedMediaType
from werkzeug.wrappers import Response

from daemons.webapp.dispatch import Form, Pages
from daemons.webapp.weather import NAMES, weather_of


def _json(value: Any, status: int = 200) -> Response:
    # In ASCII: a browser that took it for a page would find nothing in it.
    return Response(json.dumps(value) + "\n", status, mimetype="application/json")


def _error(request: Form, error: HTTPException) -> Response:
    return _json({"error": error.description}, error.code or 500)


pages = Pages(error=_error)


@pages.at("/base64", "POST")
def encode(request: Form) -> Response:
    """``{"mystring": TEXT}`` → the same, and ``base64`` of its UTF-8."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Content-Type: application/json is expected")
    try:
        asked = json.loads(request.get_data().decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
    text = asked.get("mystring") if isinstance(asked, dict) else None
    if not isinstance(text, str) or not text:
        raise BadRequest('an object with a text "mystring" is expected')
    try:
        octets = text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest('"mystring" has half of a surrogate pair in it') from None
    return _json({"mystring": text, "base64": b64encode(octets).decode("ascii")})


@pages.at("/")
def index(request: Form) -> Response:
    """What there is."""
    return _json({"base64": "POST base64", "weather": "GET weather, GET weather/CITY"})


@pages.at("/weather")
def cities(request: Form) -> Response:
    """The cities that are known."""
    return _json({"cities": NAMES})


@pages.at("/weather/<city>")
def weather(request: Form, city: str) -> Response:
    """The weather of one."""
    found = weather_of(city)
    if found is None:
        raise NotFound("there is no weather station in this place")
    return _json({**found._asdict(), "temperature": found.temperature})
