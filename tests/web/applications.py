"""WSGI applications: a page for each thing that one may do, and for each that it must not."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]

PLAIN = [("Content-Type", "text/plain")]

#: More than a response may have in memory.
LARGE = 1_000_003

#: Names of closed iterables, in order.
closed: list[str] = []


class Pieces:
    """An iterable of pieces, without a length."""

    def __init__(self, name: str, *pieces: Any) -> None:
        self.name = name
        self.pieces = iter(pieces)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        piece = next(self.pieces)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        closed.append(self.name)


def page(environ: Environ, start: Start) -> Iterable[bytes]:
    """WSGI application: call the page of the path."""
    name = environ["PATH_INFO"].strip("/")
    return PAGES[name](name, environ, start)  # type: ignore[no-any-return]


def _given(body: Callable[[str], Any], status: str = "200 OK", *headers: tuple[str, str]) -> Callable[..., Any]:
    def serve(name: str, environ: Environ, start: Start) -> Any:
        start(status, [*PLAIN, *headers])
        return body(name)

    return serve


def _echo(name: str, environ: Environ, start: Start) -> Any:
    start("200 OK", PLAIN)
    length = environ["CONTENT_LENGTH"]
    return [environ["wsgi.input"].read(int(length)) + length.encode()]


def _late(name: str, environ: Environ, start: Start) -> Any:
    yield b""
    start("200 OK", PLAIN)
    yield b"late"


def _written(name: str, environ: Environ, start: Start) -> Any:
    write = start("200 OK", PLAIN)
    write(b"one,")
    write(b"two,")
    return Pieces(name, b"three") if name == "written and more" else [b"three"]


def _written_much(name: str, environ: Environ, start: Start) -> Any:
    write = start("200 OK", PLAIN)
    for start_of_piece in range(0, LARGE, 1000):
        write(b"x" * min(1000, LARGE - start_of_piece))
    return []


def _written_late(name: str, environ: Environ, start: Start) -> Any:
    write = start("200 OK", PLAIN)
    yield b"a"
    write(b"b")


def _changed(name: str, environ: Environ, start: Start) -> Any:
    start("200 OK", PLAIN)
    try:
        raise ValueError("a secret of the application")
    except ValueError:
        start("503 Service Unavailable", PLAIN, sys.exc_info())
    return [b"sorry"]


def _changed_late(name: str, environ: Environ, start: Start) -> Any:
    start("200 OK", PLAIN)
    yield b"half"
    try:
        raise ValueError("a secret of the application")
    except ValueError:
        start("503 Service Unavailable", PLAIN, sys.exc_info())
    yield b"never"


def _twice(name: str, environ: Environ, start: Start) -> Any:
    start("200 OK", PLAIN)
    start("200 OK", PLAIN)
    return []


def _file(name: str, environ: Environ, start: Start) -> Any:
    start("200 OK", PLAIN)
    with tempfile.NamedTemporaryFile() as made:
        made.write(b"x" * LARGE if name == "file" else b"")
        made.flush()
        file: Any = io.BytesIO(b"in memory") if name == "no file" else open(made.name, "rb")  # noqa: SIM115
    if name == "file":
        file.seek(3)
    return environ["wsgi.file_wrapper"](file, 7)


def _complain(name: str, environ: Environ, start: Start) -> Any:
    environ["wsgi.errors"].writelines(["a line\nand ", "another"])
    start("200 OK", PLAIN)
    return [b""]


def _raise(name: str) -> Any:
    raise ValueError("a secret of the application")


PAGES: dict[str, Callable[..., Any]] = {
    "": _given(lambda name: [b"hello"]),
    "echo": _echo,
    "list": _given(lambda name: [b"a", b"", b"bc"]),
    "empty": _given(lambda name: []),
    "pieces": _given(lambda name: Pieces(name, b"", b"a", b"", b"bc")),
    "no pieces": _given(lambda name: Pieces(name)),
    "measured": _given(lambda name: Pieces(name, b"a", b"bc"), "200 OK", ("Content-Length", "3")),
    "too much": _given(lambda name: Pieces(name, b"a", b"bcd", b"e"), "200 OK", ("Content-Length", "3")),
    "too little": _given(lambda name: Pieces(name, b"a"), "200 OK", ("Content-Length", "3")),
    "whole, too much": _given(lambda name: [b"abcd"], "200 OK", ("Content-Length", "3")),
    "whole, too little": _given(lambda name: [b"a"], "200 OK", ("Content-Length", "3")),
    "nothing": _given(lambda name: [b"never sent"], "204 No Content", ("Content-Length", "9")),
    "unchanged": _given(lambda name: Pieces(name, b"nor this"), "304 Not Modified", ("Content-Length", "9")),
    "dated": _given(lambda name: [b""], "200 OK", ("Date", "yesterday"), ("Server", "mine")),
    "late": _late,
    "written": _written,
    "written and more": _written,
    "written much": _written_much,
    "changed": _changed,
    "changed late": _changed_late,
    "file": _file,
    "no file": _file,
    "empty file": _file,
    "complain": _complain,
    # --- bugs --------------------------------------------------------------------------------------
    "raise": _given(_raise),
    "raise at once": _given(lambda name: Pieces(name, ValueError("a secret of the application"))),
    "raise late": _given(lambda name: Pieces(name, b"half", ValueError("a secret of the application"))),
    "leave": lambda *_: sys.exit(3),
    "silent": lambda *_: [b"a"],
    "none": _given(lambda name: None),
    "text": _given(lambda name: ["text"]),
    "text late": _given(lambda name: Pieces(name, b"a", "text")),
    "octets": _given(lambda name: b"x"),
    "written late": _written_late,
    "twice": _twice,
}

clean = validator(page)
