"""A page of docs/ as a sequence of steps: files to write, and commands with their expected output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: A block, and the line of text before it.
_BLOCK = re.compile(r"^(?P<before>[^\n]*)\n+```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)

#: What differs from one machine, or one minute, to another: as the page shows it, and as it may be.
_VARIES = [
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"),
    (r"pid=\d+", r"pid=\d+"),
    (r"pid \d+, uptime \d:\d\d:\d\d", r"pid \d+, uptime \d:\d\d:\d\d"),
    (r"\[\d+\]", r"\[\d+\]"),
    (r"127\.0\.0\.1:(?:41|50)\d{3}", r"127\.0\.0\.1:\d+"),
    (r"seconds=\d+\.\d{3}", r"seconds=\d+\.\d{3}"),
    (r"in \d+\.\d\ds", r"in \d+\.\d\ds"),
    (r" +\[100%\]", r" +\[100%\]"),
]


@dataclass(frozen=True)
class File:
    """A file to write, or text to append to an existing file."""

    path: str
    text: str
    appended: bool = False


@dataclass(frozen=True)
class Command:
    """A command and its expected output."""

    line: str
    printed: str

    def matches(self, printed: str) -> bool:
        """Return whether `printed` matches the page."""
        pattern, start = "", 0
        for found in re.finditer("|".join(f"({shown})" for shown, _ in _VARIES), self.printed):
            assert found.lastindex is not None
            pattern += re.escape(self.printed[start : found.start()]) + _VARIES[found.lastindex - 1][1]
            start = found.end()
        return re.fullmatch(pattern + re.escape(self.printed[start:]), printed) is not None


def steps(page: Path, changed: dict[str, str]) -> Iterator[File | Command]:
    """Yield the steps of a page in order; `changed` are words to replace, such as ports."""
    text = page.read_text("utf-8")
    for word, other in changed.items():
        text = re.sub(rf"(?<![\w.]){re.escape(word)}(?!\w)", other, text)
    for block in _BLOCK.finditer(text):
        if block["kind"] == "console":
            for command in re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]:
                line, _, printed = command.partition("\n")
                yield Command(line, printed)
        elif named := re.fullmatch(r"(At the end of )?`([\w./]+)`:", block["before"]):
            yield File(named[2], block["body"], bool(named[1]))
        else:
            raise AssertionError(f"a block that is neither typed nor named: {block[0]}")
