"""A project's folder, made for one test."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from daemons.operating.config import ini
from daemons.operating.config.ini import Override, parse_override
from daemons.operating.config.sections import Settings
from daemons.settings.complaints import ConfigurationError

#: An ini with nothing wrong in it.
GOOD = """
    [daemon]
    service = launcelot
    port = 1060
"""

#: A module whose service can be made once; a second time raises RuntimeError.
FAILS_SECOND_TIME = """
    import os
    import daemons

    class Late(daemons.Service):
        framing = daemons.Until(b"?", limit=64)

        def __init__(self, options=None):
            super().__init__(options)
            if os.path.exists("once"):
                raise RuntimeError("the second time it is made")
            open("once", "w").close()

        def respond(self, message):
            return b"."
"""


class Folder:
    """The parent of a ``conf`` folder; texts are dedented."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.conf = path / "conf"
        self.conf.mkdir()

    def write(self, name: str, text: str) -> Path:
        """``conf/NAME.ini``."""
        path = self.conf / f"{name}.ini"
        path.write_text(dedent(text), "utf-8")
        return path

    def module(self, name: str, text: str) -> None:
        """``NAME.py`` in the project's folder."""
        (self.path / f"{name}.py").write_text(dedent(text), "utf-8")

    def read(self, *overrides: str | Override, name: str = "x", run: Path | None = None) -> Settings:
        """Read the settings of `name`, with overrides as ``SECTION.KEY=VALUE``."""
        made = [each if isinstance(each, Override) else parse_override(each) for each in overrides]
        return ini.read(self.conf, name, made, run)

    def complaints(self, *overrides: str | Override, name: str = "x") -> list[str]:
        """Return the complaints about `name`."""
        try:
            self.read(*overrides, name=name)
        except ConfigurationError as error:
            return error.complaints
        return []
