"""Pages that are the same for every visitor, kept in a cache."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from daemons.webapp.dispatch import Form, View
from daemons.webapp.rendering import ROOT

if TYPE_CHECKING:
    from daemons.caching import Cache

#: Key in the environ of the site's `Cache`; absent if it has none.
CACHE = "daemons.webapp.cache"


def cached_page(seconds: float) -> Callable[[View], View]:
    """Decorator of a view that depends on its path alone: keep the page in the site's cache for `seconds`."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def from_cache(request: Form) -> Response:
            cache: Cache | None = request.environ.get(CACHE)
            if cache is None:
                return view(request)
            # Imported here, so that a site without a cache does not need pymemcache.
            from daemons.caching import key

            name = key("page", request.environ.get(ROOT, ""), request.root_path, request.path)
            text = cache.get_or_compute(name, seconds, lambda: view(request).get_data(as_text=True))
            return Response(text, mimetype="text/html")

        return from_cache

    return decorate
