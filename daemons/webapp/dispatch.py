"""From a URL to the function that answers it: a table, or a decorator, on Werkzeug's routing."""

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
    """A request.  What is read of its body is bounded, also where no server has done that; else 413."""

    max_content_length = 64 * 1024  # octets; no form here has more than a few lines
    max_form_memory_size = 64 * 1024
    max_form_parts = 100


#: Is given the request, and by name what stands in the URL.
View = Callable[..., Response]


#: What is said of errors that nobody has said more of.
TEXTS = {
    404: "There is no such page here.",
    405: "This page is there, but not for this method.",
    413: "This is more than any form here takes.",
}


def error_page(request: Form, error: HTTPException) -> Response:
    """The status and what it means, and nothing of the request."""
    text = TEXTS.get(error.code or 500, error.description)
    return render(request, "error.html", status=error.code or 500, name=error.name, text=text)


class Pages:
    """A WSGI application of views.  A path that nobody has is 404; one that is there for other methods alone is 405,
    with Allow.  GET is HEAD too, and OPTIONS tells what there is."""

    #: Of an error, what of its fields is said too.
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
        """A decorator: the view answers `methods`, or else GET, at `path`."""

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
        # No host: what is answered does not depend on it.
        adapter = self._map.bind("", path_info=request.path, default_method=request.method)
        if request.method == "OPTIONS" and (methods := set(adapter.allowed_methods())):
            told = Response(status=204, headers={"Allow": ", ".join(sorted(methods | {"OPTIONS"}))})
            del told.headers["Content-Type"]
            return told
        view, values = adapter.match()
        response: Response = view(request, **values)
        return response


def slashed(application: WSGIApplication) -> WSGIApplication:
    """`application`, which is to be mounted: without the slash behind it, its relative links would lead elsewhere."""

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"]:
            return application(environ, start_response)
        request = Request(environ)
        query = request.query_string.decode("latin-1")
        response: Any = redirect(f"{request.root_path}/{'?' if query else ''}{query}", 308)
        return response(environ, start_response)  # type: ignore[no-any-return]

    return serve
