"""The commands of docs/rpc.md."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import Any

from daemons.rpc.xml.publishing import Options
from tests.operating.conftest import _as_found, folder
from tests.operating.folder import Folder
from tests.rpc.followed import DOCS, declared, follow, shown

__all__ = ["_as_found", "folder"]

PAGE = DOCS / "rpc.md"


def test_commands_of_the_page_print_the_documented_output(folder: Folder) -> None:
    # Two files and six commands; the other blocks are programs.
    follow(PAGE, folder, 8, "1093")


def test_the_table_of_settings() -> None:
    assert declared(Options).items() <= shown(PAGE).items()


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
