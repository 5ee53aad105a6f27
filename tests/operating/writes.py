"""An output that records its writes."""

from __future__ import annotations

from daemons.operating.logging.logs import LINE_LIMIT, Output


class Writes(Output):
    """Records each write instead of performing it."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = LINE_LIMIT  # as for a pipe
        self.made: list[tuple[str, int]] = []

    def write(self, text: str) -> None:
        self.made.append((text, text.count("\n") + 1))
