"""Text files may begin with a byte order mark: all are read as utf-8-sig."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.cli import inspection
from tests.operating.folder import GOOD, Folder

PROJECT = Path(__file__).resolve().parents[3]

#: Text files that are read in another encoding, and why.
OTHERS = {
    "daemons/serving/listening/listen.py": "the kernel writes it",
    "daemons/operating/metrics/metrics_file.py": "the kernel writes it",
    "daemons/operating/pidfile.py": "a daemon writes it",
    "daemons/operating/certificates.py": "looked through for words of PEM; OpenSSL reads the file itself",
    "daemons/cli/supervisord_check.py": "supervisord cannot read a byte order mark, which is a complaint",
    "daemons/clients/rpc/linecount.py": "data, sent as it is",
}


def text_reads(tree: ast.AST) -> Iterator[tuple[int, str | None]]:
    """Return line and encoding (None if not given) of each call that opens or reads a text file."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        named = {word.arg: word.value for word in node.keywords}
        if name == "read_text" and method:
            encoding = named.get("encoding", node.args[0] if node.args else None)
            if encoding is not None and not isinstance(encoding, ast.Constant):
                continue  # a function of ours, which is given a path
        elif name == "open":
            place = 0 if method else 1
            mode = named.get("mode", node.args[place] if len(node.args) > place else None)
            text_mode = isinstance(mode, ast.Constant) and not set("bwax") & set(str(mode.value))
            if not (text_mode or "encoding" in named or (mode is None and not method)):
                continue  # in binary mode, to write, or a method open() of something else
            if isinstance(mode, ast.Constant) and not text_mode:
                continue
            encoding = named.get("encoding")
        else:
            continue
        yield node.lineno, str(encoding.value) if isinstance(encoding, ast.Constant) else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path.read_text()", [(1, None)]),
        ("users_file.read_text(path)", []),
        ("path.read_text('utf-8')", [(1, "utf-8")]),
        ("Path(name).read_text(encoding='utf-8-sig')", [(1, "utf-8-sig")]),
        ("Path(name).read_text()", [(1, None)]),
        ("open(name)", [(1, None)]),
        ("open(name, 'r', encoding='utf-8')", [(1, "utf-8")]),
        ("path.open(encoding='utf-8')", [(1, "utf-8")]),
        ("path.open('r')", [(1, None)]),
        ("path.open('rb')", []),
        ("folder.open(name)", []),
        ("open(name, 'rb')", []),
        ("open(name, 'w', encoding='utf-8')", []),
        ("os.open(name, os.O_RDONLY)", []),
    ],
)
def test_places_are_found(text: str, expected: list[tuple[int, str | None]]) -> None:
    assert list(text_reads(ast.parse(text))) == expected


def test_every_text_file_is_read_with_or_without_a_byte_order_mark() -> None:
    wrong = []
    for path in sorted(PROJECT.glob("daemons/**/*.py")):
        name = path.relative_to(PROJECT).as_posix()
        for line, encoding in text_reads(ast.parse(path.read_text("utf-8"))):
            if encoding != "utf-8-sig" and name not in OTHERS:
                wrong.append(f"{name}:{line}: {encoding}")
    assert wrong == []


LOGGING = (PROJECT / "conf" / "logging.ini").read_text("utf-8")
TEXTS = {"launcelot": GOOD.replace("    ", ""), "defaults": "[limits]\nidle_timeout = 5m\n", "logging": LOGGING}

every_file = pytest.mark.parametrize("name", TEXTS)


@every_file
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no mark", "mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_file_with_any_mark_and_any_line_end_is_read(
    folder: Folder, capsys: pytest.CaptureFixture[str], name: str, mark: bytes, end: str
) -> None:
    for each, text in TEXTS.items():
        (folder.conf / f"{each}.ini").write_bytes(text.encode())
    (folder.conf / f"{name}.ini").write_bytes(mark + TEXTS[name].replace("\n", end).encode())
    assert inspection.check(folder.conf) == 0
    assert capsys.readouterr() == ("OK: launcelot\n", "")


@every_file
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"# k\xfcnstler\n", "not UTF-8 (byte 0xfc); save it as UTF-8"),
        (b"# \0\n", "a NUL character; not a text file"),
        ("# künstler\n".encode("utf-16-le"), "not UTF-8 (byte 0xfc); save it as UTF-8"),
    ],
    ids=["Latin-1", "NUL", "UTF-16"],
)
def test_file_of_another_encoding_is_one_complaint_with_its_line(
    folder: Folder, capsys: pytest.CaptureFixture[str], name: str, data: bytes, reason: str
) -> None:
    for each, text in TEXTS.items():
        (folder.conf / f"{each}.ini").write_text(text)
    path = folder.conf / f"{name}.ini"
    lines = path.read_bytes().count(b"\n")
    path.write_bytes(path.read_bytes() + data)
    assert inspection.check(folder.conf) == 100
    assert capsys.readouterr() == ("", f"conf/{name}.ini line {lines + 1}: {reason}\n")
