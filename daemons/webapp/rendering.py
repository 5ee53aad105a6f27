"""Pages from the templates of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

#: Where in the environ it stands what the whole site is mounted at.
ROOT = "daemons.webapp.root"

#: Whatever is put into a page is escaped; what a template misses is an error.
_templates = Environment(
    loader=PackageLoader("daemons.webapp"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page."""
    root = request.environ.get(ROOT, request.root_path)
    text = _templates.get_template(template).render(root=root, here=request.root_path, status=status, **values)
    return Response(text, status, mimetype="text/html")
