"""docs/jsonrpc.md, followed to the letter."""

from __future__ import annotations

import dataclasses
import re
import shutil
from itertools import islice
from pathlib import Path

import pytest

from daemons.operating.values import kind_of
from daemons.rpc.json_service import JSONRPC
from tests.end_to_end.page import Command, File, steps
from tests.operating.conftest import _as_found, folder
from tests.operating.folder import Folder
from tests.operating.live import daemons, environment, free_port, type_in

__all__ = ["_as_found", "folder"]

PAGE = Path(__file__).parents[2] / "docs" / "jsonrpc.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_page_shows_what_happens(folder: Folder) -> None:
    try:
        # Two files, and the commands of the first block.
        for step in islice(steps(PAGE, {"1094": str(free_port())}), 7):
            match step:
                case File(path, content, _):
                    (folder.path / path).write_text(content, "utf-8")
                case Command(line, printed):
                    heard = type_in(folder.path, "sh", "-c", f"{line} 2>&1", env=environment()).stdout
                    heard = heard.replace(str(folder.path), "/srv/camelot")
                    assert step.matches(heard), f"{line}: {heard!r}, and not {printed!r}"
        assert not (folder.path / "run" / "sums.pid").exists()
    finally:
        daemons(folder.path, "stop", "sums")


def test_the_table_of_settings() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(?: `([^`]*)`)? \|", PAGE.read_text("utf-8"), re.MULTILINE))
    declared = {each.name: kind_of(each).show(each.default) for each in dataclasses.fields(JSONRPC.Options)}
    assert declared == rows
