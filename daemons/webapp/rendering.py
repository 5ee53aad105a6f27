"""Rendering of this package's templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

#: Key in the environ of the path at which the whole site is mounted.
ROOT = "daemons.webapp.root"

#: All values are escaped; an undefined value is an error.
_templates = Environment(
    loader=PackageLoader("daemons.webapp"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Return the page of a template."""
    root = request.environ.get(ROOT, request.root_path)
    text = _templates.get_template(template).render(root=root, here=request.root_path, status=status, **values)
    return Response(text, status, mimetype="text/html")
