"""A page of docs/, whose first commands are typed, and whose table of settings is that of the code."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from daemons.settings.values import kind_of
from tests.end_to_end.page import Command, File, steps
from tests.operating.folder import Folder
from tests.operating.live import daemons, environment, free_port, type_in

DOCS = Path(__file__).parents[2] / "docs"


def follow(page: Path, folder: Folder, count: int, port: str) -> None:
    """Do the first `count` things that the page says, with a free port in the place of its own; the daemon that it has
    started by then, ``sums``, is gone afterwards."""
    try:
        for step in islice(steps(page, {port: str(free_port())}), count):
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


def shown(page: Path) -> dict[str, str]:
    """The settings of its tables, and what they are by default."""
    return dict(re.findall(r"^\| `(\w+)` \|(?: `([^`]*)`)? \|", page.read_text("utf-8"), re.MULTILINE))


def declared(options: type[Any]) -> dict[str, str]:
    """The same, of the code."""
    return {each.name: kind_of(each).show(each.default) for each in dataclasses.fields(options)}
