"""Routing of URLs to view functions, by a table or a decorator, on Werkzeug's routing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from daemons.webapp.rendering import render

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Form(Request):
    """A request with limits on its body, above which it is answered with 413."""

    max_content_length = 64 * 1024  # bytes; no form here has more than a few lines
    max_form_memory_size = 64 * 1024
    max_form_parts = 100


#: Called with the request, and with the variable parts of the URL as keyword arguments.
View = Callable[..., Response]


#: Default texts of errors.
TEXTS = {
    404: "There is no page at this URL.",
    405: "This page does not support the request method.",
    413: "The form data exceeds the size limit.",
}


def error_page(request: Form, error: HTTPException) -> Response:
    """Return a page with the status and its meaning, without any data of the request."""
    text = TEXTS.get(error.code or 500, error.description)
    return render(request, "error.html", status=error.code or 500, name=error.name, text=text)


class Pages:
    """WSGI application that calls views.  An unknown path is 404; a known path with another method is 405, with Allow.
    GET views also answer HEAD, and OPTIONS lists the methods."""

    #: Fields of Werkzeug's error response that are kept.
    KEPT: ClassVar[frozenset[str]] = frozenset(("allow", "retry-after"))

    def __init__(
        self,
        table: Mapping[str, Mapping[str, View]] | None = None,
        error: Callable[[Form, HTTPException], Response] = error_page,
    ) -> None:
        self._map = Map(strict_slashes=False, merge_slashes=False)
        self._error = error
        for path, views in (table or {}).items():
            for method, view in views.items():
                self._map.add(Rule(path, methods=[method], endpoint=view))

    def at(self, path: str, *methods: str) -> Callable[[View], View]:
        """Decorate a view to answer `methods`, by default GET, at `path`."""

        def add(view: View) -> View:
            self._map.add(Rule(path, methods=methods or ("GET",), endpoint=view))
            return view

        return add

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """PEP 3333."""
        request = Form(environ)
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = self._error(request, error)
            for name, value in error.get_headers(environ):
                if name.lower() in self.KEPT:
                    response.headers[name] = value
        return response(environ, start_response)

    def _answer(self, request: Form) -> Response:
        # Without a host: responses do not depend on it.
        adapter = self._map.bind("", path_info=request.path, default_method=request.method)
        if request.method == "OPTIONS" and (methods := set(adapter.allowed_methods())):
            response = Response(status=204, headers={"Allow": ", ".join(sorted(methods | {"OPTIONS"}))})
            del response.headers["Content-Type"]
            return response
        view, values = adapter.match()
        answer: Response = view(request, **values)
        return answer


def slashed(application: WSGIApplication) -> WSGIApplication:
    """Return `application` with a redirect to its mount point with a slash, without which relative links would fail."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"]:
            return application(environ, start_response)
        request = Request(environ)
        query = request.query_string.decode("latin-1")
        response: Any = redirect(f"{request.root_path}/{'?' if query else ''}{query}", 308)
        return response(environ, start_response)  # type: ignore[no-any-return]

    return serve
