"""A form that encodes its input in base64, in plain WSGI without a framework."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PAGE = '<!DOCTYPE html>\n<html lang="en"><head><title>wsgi_app.py</title></head><body>{}</body></html>\n'

WELCOME = 'Welcome! Enter a string <form action="encode"><input name="mystring"><input type="submit"></form>'
ENCODED = '<tt>%s</tt> base64 encoded is: <tt>%s</tt><br><a href="/">Return to the home page</a>'


def base64_form(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """PEP 3333.  Any bytes are encoded, including malformed UTF-8."""
    path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
    # HEAD is GET without a response body (RFC 9110, section 9.3.2).
    is_get = environ["REQUEST_METHOD"] in ("GET", "HEAD")
    if path == "/":
        if not is_get or query:
            return _respond(start_response, "400 Bad Request", "Error: the front page is not a form.")
        return _respond(start_response, "200 OK", PAGE.format(WELCOME), "text/html")
    if path == "/encode":
        if not is_get:
            return _respond(start_response, "400 Bad Request", "Error: this form does not support POST parameters.")
        my = parse_qs(query, errors="surrogateescape").get("mystring", [""])[0]
        if not my:
            return _respond(start_response, "400 Bad Request", 'Error: this form requires a "mystring" parameter')
        encoded = b64encode(my.encode("utf-8", "surrogateescape")).decode("ascii")
        page = PAGE.format(ENCODED % (escape(repr(my)), escape(encoded)))
        return _respond(start_response, "200 OK", page, "text/html")
    return _respond(start_response, "404 Not Found", "That URL is not valid.")


def _respond(start_response: StartResponse, status: str, text: str, media: str = "text/plain") -> Iterable[bytes]:
    body = text.encode("utf-8")
    start_response(status, [("Content-Type", f"{media}; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
