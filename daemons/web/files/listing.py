"""Directory listings."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from daemons.web.files.lookup import Files, Folder
from daemons.web.responses import page
from daemons.web.site.gate import Gate

#: Maximum names on a page.
MOST = 1000


def listing(files: Files, folder: Folder, gate: Gate | None = None, *, root: bool) -> bytes:
    """Return a page that lists `folder`, without names that `gate` hides.  Raises `Refused`."""
    lines = [] if root else ['<li><a href="../">../</a>\n']
    for name, is_folder in folder.entries(MOST):
        if files.shows(name) and (gate is None or gate.shows(folder, name)):
            end = "/" if is_folder else ""
            # Without ./, a name with a colon would be a URL with a scheme.
            link = "./" + quote(name, safe="") + end
            lines.append(f'<li><a href="{link}">{escape(name.decode("utf-8", "replace"))}{end}</a>\n')
    return page("Files", f"<ul>\n{''.join(lines)}</ul>\n")
