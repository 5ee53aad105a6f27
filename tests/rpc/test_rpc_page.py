"""docs/rpc.md, followed to the letter."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
import textwrap
from itertools import islice
from pathlib import Path
from typing import Any

from daemons.operating.values import kind_of
from daemons.rpc.publishing import Options
from tests.end_to_end.page import Command, File, steps
from tests.operating.conftest import _as_found, folder
from tests.operating.folder import Folder
from tests.operating.live import daemons, environment, free_port, type_in

__all__ = ["_as_found", "folder"]

PAGE = Path(__file__).parents[2] / "docs" / "rpc.md"


def test_the_page_shows_what_happens(folder: Folder) -> None:
    try:
        # Two files and six commands; the other blocks are programs.
        for step in islice(steps(PAGE, {"1093": str(free_port())}), 8):
            match step:
                case File(path, content, _):
                    (folder.path / path).write_text(content, "utf-8")
                case Command(line, printed):
                    line = line.replace("python3", shlex.quote(sys.executable))
                    heard = type_in(folder.path, "sh", "-c", f"{line} 2>&1", env=environment()).stdout
                    heard = heard.replace(str(folder.path), "/srv/camelot")
                    assert step.matches(heard), f"{line}: {heard!r}, and not {printed!r}"
        assert not (folder.path / "run" / "sums.pid").exists()
    finally:
        daemons(folder.path, "stop", "sums")


def test_the_table_of_settings() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(?: `([^`]*)`)? \|", PAGE.read_text("utf-8"), re.MULTILINE))
    declared = {each.name: kind_of(each).show(each.default) for each in dataclasses.fields(Options)}
    assert declared.items() <= rows.items()


def test_the_application_on_the_page(folder: Folder) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (folder.path / "sums.py").write_text(blocks[0], "utf-8")
    sys.path.insert(0, str(folder.path))
    names: dict[str, Any] = {}
    exec(textwrap.dedent(blocks[-1]), names)
    heard: list[Any] = []
    environ = {"PATH_INFO": "/rpc", "REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "HTTP_HOST": "x"}
    (page,) = names["site"](environ, lambda *told: heard.extend(told))
    assert (heard[0], b"Adds x and y." in page) == ("200 OK", True)
    assert names["site"]({"PATH_INFO": "/"}, lambda *told: None) == [b"Camelot\n"]
