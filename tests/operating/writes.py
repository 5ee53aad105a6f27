"""An output that keeps what it should write."""

from __future__ import annotations

from daemons.operating.logging.logs import LINE_LIMIT, Output


class Writes(Output):
    """Keeps each write in place of making it."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = LINE_LIMIT  # whatever standard output is
        self.made: list[tuple[str, int]] = []

    def write(self, text: str) -> None:
        self.made.append((text, text.count("\n") + 1))
