"""Applications created by a class with options from a section of the ini file."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemons.cli import inspection
from daemons.operating.loading.targets import target_of
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder
from tests.web.wsgi_talking import get, said, visit

PAGES = """
    from dataclasses import dataclass

    from daemons import COUNT, PATH, setting


    class Pages:
        @dataclass(frozen=True)
        class Options:
            times: int = setting(COUNT, 1, "how often it says so")
            book: str = setting(PATH, "run/pages.book", "where it is written down")

        def __init__(self, options):
            if options.times == 13:
                raise TypeError("13 brings bad luck; another count is expected")
            self.options = options

        def __call__(self, environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"Ni!" * self.options.times]


    class Each:
        def __init__(self, environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])

        def __iter__(self):
            yield b"each"
"""

INI = """
    [daemon]
    wsgi = pages:{}
    port = 0
    [{}]
    times = {}
"""


def test_application_gets_the_options_of_its_section(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.module("pages", PAGES)
    folder.write("x", INI.format("Pages", "pages", 3))
    settings = folder.read(run=Path("/elsewhere"))
    application = target_of(settings).application()
    assert (application.options.times, application.options.book) == (3, "/elsewhere/pages.book")  # type: ignore[attr-defined]
    assert target_of(folder.read("pages.book=/tmp/book")).application().options.book == "/tmp/book"  # type: ignore[attr-defined]
    with visit(application) as conversation:
        assert said(conversation, get("")).endswith(b"\r\n\r\nNi!Ni!Ni!")
    assert inspection.show(settings) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split() for line in shown[-2:]] == [
        ["times", "3", "conf/x.ini"],
        ["book", "/elsewhere/pages.book", "built", "in"],
    ]


@pytest.mark.parametrize(
    ("name", "times", "complaint"),
    [
        ("Pages", "many", "conf/x.ini [pages] times = many: not a count; write a whole number above 0"),
        (
            "Pages",
            "2\nbook = run/",
            "[pages] book = run/: not a file; write run/NAME, or a path relative to the project's",
        ),
        ("Pages", "2\ntims = 3", "conf/x.ini [pages] tims: no such setting; did you mean times?"),
        ("Pages", "13", "conf/x.ini [daemon] wsgi = pages:Pages: 13 brings bad luck; another count is expected"),
        ("Each", "2", "conf/x.ini [each] times: Each has no options"),
    ],
)
def test_invalid_option_is_refused(folder: Folder, name: str, times: str, complaint: str) -> None:
    folder.module("pages", PAGES)
    folder.write("x", INI.format(name, name.lower(), times.replace("\n", "\n    ")))
    with pytest.raises(ConfigurationError) as caught:
        target_of(folder.read()).request_handlers()
    assert complaint in str(caught.value)


def test_a_class_without_options_is_the_application(folder: Folder) -> None:
    folder.module("pages", PAGES)
    folder.write("x", INI.format("Each", "each", 1).replace("times = 1", ""))
    with visit(target_of(folder.read()).application()) as conversation:
        assert b"each" in said(conversation, get(""))
