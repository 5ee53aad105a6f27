"""A page that lists a folder."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from daemons.web.files.lookup import Files, Folder
from daemons.web.responses import page
from daemons.web.site.gate import Gate

#: Names on a page.
MOST = 1000


def listing(files: Files, folder: Folder, gate: Gate | None = None, *, root: bool) -> bytes:
    """The page.  Nothing of the request is in it, and nothing that `gate` hides.  Raises `Refused`."""
    lines = [] if root else ['<li><a href="../">../</a>\n']
    for name, is_folder in folder.entries(MOST):
        if files.shows(name) and (gate is None or gate.shows(folder, name)):
            end = "/" if is_folder else ""
            # A colon in a name that begins a link would make it a scheme.
            link = "./" + quote(name, safe="") + end
            lines.append(f'<li><a href="{link}">{escape(name.decode("utf-8", "replace"))}{end}</a>\n')
    return page("Files", f"<ul>\n{''.join(lines)}</ul>\n")
