"""Run the first commands of a page of docs/, and read its table of settings."""

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
    """Execute the first `count` steps of the page, with a free port in place of its own, and stop the daemon ``sums``
    that they start."""
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
    """Return the settings in the tables of a page, with their defaults."""
    return dict(re.findall(r"^\| `(\w+)` \|(?: `([^`]*)`)? \|", page.read_text("utf-8"), re.MULTILINE))


def declared(options: type[Any]) -> dict[str, str]:
    """Return the settings declared in the code, with their defaults."""
    return {each.name: kind_of(each).show(each.default) for each in dataclasses.fields(options)}
