"""The text of the repository is plain technical English: a retired idiom stays below 1 line in 1,000.

The idiom makes a pronoun stand for a thing that has a name: "who asks" for the client, "what came" for the input, "one
that is full" for a full queue. Write the noun. ``python -m tests.test_language [PATH ...]`` prints the lines found.

Direct questions ("What is your quest?"), indirect questions ("decide what to do"), and relative clauses that follow
their noun ("a connection whose peer left") do not count. Nor does a quotation of an RFC: a line with the words
``quotes RFC 9112`` exempts itself and the lines below it, up to the next empty one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parents[1]

#: Lines of the idiom in 1,000 lines of text. Well-written packages have from 0.1 to 0.7.
LIMIT = 1.0

#: Packages that the tests need, written by others: the pattern must find next to nothing there.
ANCHORS = ("h11", "httpx2", "supervisor", "werkzeug")

#: Not prose: generated files, a license, and this file, which defines the idiom.
EXEMPT = re.compile(r"\.svg$|^constraints\.txt$|^LICENSE$|^tests/test_language\.py$")

QUOTATION = re.compile(r"^[^\n]*\bquotes RFC \d+(?:[^\n]*\S[^\n]*\n|\n)*?(?=[ \t]*$|\Z)", re.MULTILINE)

#: Between two words: spaces, the underscore of a name, or a line end with the comment sign of the next line.
GAP = r"(?:_|\s+(?:#:?[ \t]+)?)"
FIRST = r"(?<![A-Za-z])"
LAST = r"(?![A-Za-z])"

#: Before an indirect question or a "what" that is no thing, such as "regardless of what the peer sends".
ASKING = (
    r"(?<!know )(?<!knows )(?<!knew )(?<!check )(?<!checks )(?<!see )(?<!decide )(?<!decides )(?<!determine )"
    r"(?<!determines )(?<!matter )(?<!about )(?<!regardless of )(?<!exactly )(?<!wonder )"
)

IDIOM = re.compile(
    "|".join(
        (
            rf"{FIRST}(?:who|whom|whoever|whomever){LAST}",
            # The user nobody, as in "user = nobody" and in the columns of inetd.conf, is a name.
            rf"(?<!= )(?<!wait )(?<!  ){FIRST}(?:nobody|somebody|everybody){LAST}",
            # After a noun it is a relative clause, also at the start of a continued line.
            rf'(?:["(.;:] ?|\b(?:of|for|and|or|that|those|one|by|with|from|in|to|is|are|than|as|has|all) )whose{LAST}',
            rf"{ASKING}{FIRST}what(?:ever)?{GAP}(?:is|was|are|were|has|have|had|can|could|may|must|will|would|cannot"
            r"|does|did|came|come|comes|follow|followed|follows|goes|went|stands|stood|remains|belongs|needs|makes|says|said|fits"
            rf"|there|it|they|he|nobody|somebody|others|the|a|an|its|their|each|this|that|one){LAST}",
            rf"(?<!the )(?<!only ){FIRST}one{GAP}(?:that|which|whose){LAST}",
            rf"{FIRST}all{GAP}that{GAP}(?:is|was|are|were|came|come|comes|has|had){LAST}",
            rf"{FIRST}where{GAP}there{GAP}(?:is|are){GAP}(?:none|no){LAST}",
            rf"{FIRST}for{GAP}then{LAST}",
            rf"{FIRST}(?:is|are|was|were|be|been|being|has|have|had|not|nothing){GAP}(?:told|heard){LAST}",
        )
    ),
    re.IGNORECASE,
)

#: A question that is put to somebody, and the questions of the bridge of death, however they are cut.
QUESTION = re.compile(r"\b(?:What|Who|Whose|Whom)\b[^.?!\n]*\?|\b(?i:what is your)\b")


class Line(NamedTuple):
    """A line with the idiom."""

    number: int
    text: str


def _blank(match: re.Match[str]) -> str:
    """Return as many lines as were matched, without text."""
    return "\n" * match[0].count("\n") or " "


def idioms(text: str) -> list[Line]:
    """Return the lines of `text` in which the idiom begins."""
    searched = QUESTION.sub(_blank, QUOTATION.sub(_blank, text))
    numbers = sorted({searched.count("\n", 0, match.start() + 1) + 1 for match in IDIOM.finditer(searched)})
    lines = text.splitlines()
    return [Line(number, lines[number - 1].strip()) for number in numbers]


def tracked() -> list[Path]:
    """Return the text files that git tracks."""
    command = ["git", "-c", f"safe.directory={PROJECT}", "ls-files", "-z"]
    try:
        names = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no checkout of git")
    return [PROJECT / name for name in names if name and not EXEMPT.search(name) and (PROJECT / name).is_file()]


def texts(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each file that is text, with its text."""
    for path in paths:
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


class Count(NamedTuple):
    """The idiom in a set of files."""

    found: list[str]
    lines: int

    @property
    def density(self) -> float:
        """Lines with the idiom in 1,000 lines."""
        return 1000 * len(self.found) / max(self.lines, 1)


def count(paths: Iterable[Path], base: Path = PROJECT) -> Count:
    """Count the idiom in files."""
    found: list[str] = []
    total = 0
    for path, text in texts(paths):
        total += text.count("\n")
        found += [f"{path.relative_to(base)}:{line.number}: {line.text}" for line in idioms(text)]
    return Count(found, total)


BAD = (
    "#: Who resets, and does not listen.",
    "whoever waits while doing so holds up the others",
    "as is known by whom it was sent",
    "nobody is let in",
    "def test_who_leaves_in_the_middle_is_not_let_over() -> None:",
    '"""What the peer has sent."""',
    "Return what is left of it.",
    "It keeps what came before.",
    "the part of\n    # what\n    # follows",
    "a table of what_is_known",
    "takes one that is full",
    "by all that is held",
    "or 0 where there is none",
    "the others wait, for then it is full",
    "the peer is told nothing of it",
    "nothing is heard of those whose peer left",
)

GOOD = (
    "Return the unread input.",
    "Return a connection whose peer has closed its side.",
    "the connections\n    # whose deadline has passed",
    "Decide what to do with the request.",
    "regardless of what the peer sends",
    'ask(b"What is your quest?")',
    'HALF = b"What is your qu"',
    "`daemons whois example.org`",
    "user = nobody",
    "somewhat is no match, nor is whole",
    "The listener is the only one that accepts.",
    'see: quotes RFC 9110, 15.5.2\n    "who knows what is said"\n    "by whom"\n',
)


@pytest.mark.parametrize("text", BAD)
def test_the_idiom_is_found(text: str) -> None:
    assert len(idioms(text)) == 1


@pytest.mark.parametrize("text", GOOD)
def test_plain_english_is_not_found(text: str) -> None:
    assert idioms(text) == []


def test_text_below_a_quotation_counts() -> None:
    assert idioms('# quotes RFC 9110: "who asks"\n# who knows\n\n# who comes\n') == [Line(4, "# who comes")]


@pytest.mark.parametrize("package", ANCHORS)
def test_well_written_packages_are_below_the_limit(package: str) -> None:
    imported = pytest.importorskip(package)
    folder = Path(imported.__file__).parent
    counted = count(sorted(folder.rglob("*.py")), folder)
    assert counted.lines > 1000
    assert counted.density < LIMIT, "\n".join(counted.found)


def test_the_repository_is_below_the_limit() -> None:
    counted = count(tracked())
    assert counted.density <= LIMIT, (
        f"{len(counted.found)} lines of {counted.lines}, {counted.density:.1f} in 1,000; {LIMIT} are allowed\n"
        + "\n".join(counted.found)
    )


if __name__ == "__main__":
    arguments = [Path(argument).resolve() for argument in sys.argv[1:]] or [PROJECT]
    counted = count(path for path in tracked() if any(path.is_relative_to(argument) for argument in arguments))
    print(*counted.found, sep="\n")
    print(f"{len(counted.found)} lines of {counted.lines}: {counted.density:.1f} in 1,000")
