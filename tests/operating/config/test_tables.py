"""Tables: sections with keys of the user's own."""

from __future__ import annotations

import pytest

from daemons.cli import inspection
from daemons.operating.loading.targets import target_of
from daemons.operating.reload import changed
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder

MODULE = """
    from dataclasses import dataclass
    from daemons import COUNT, Service, Until, setting, table
    from daemons.web.site.prefix_map import PREFIX

    class Counted(Service):
        framing = Until(b".", limit=9)

        @dataclass(frozen=True)
        class Options:
            one: int = setting(COUNT, 1, "a number")
            proxy: dict = table(PREFIX, COUNT, "a number for each path")

            def __post_init__(self):
                if self.proxy.get("/a") == self.one:
                    raise ValueError("[proxy] /a: the same as one")

        def respond(self, message):
            return message
"""
INI = """
    [daemon]
    service = counted:Counted
    port = 1060
    [counted]
    one = 7
"""


@pytest.fixture
def counted(folder: Folder) -> Folder:
    folder.module("counted", MODULE)
    return folder


def complaints_of(folder: Folder, *overrides: str) -> list[str]:
    settings = folder.read(*overrides)
    with pytest.raises(ConfigurationError) as caught:
        target_of(settings).request_handlers()
    return caught.value.complaints


def test_keys_keep_their_capitals_and_come_in_order(counted: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    counted.write("x", INI + "    [proxy]\n    /B/c = 2\n    /b = 3\n")
    settings = counted.read("proxy./Z=4")
    options = target_of(settings).options
    assert (options.one, list(options.proxy.items())) == (7, [("/B/c", 2), ("/b", 3), ("/Z", 4)])
    assert inspection.show(settings) == 0
    assert "\n[proxy]\n/B/c                  2                        conf/x.ini\n" in capsys.readouterr().out
    assert changed(counted.read("proxy./b=4"), counted.read()) == [("proxy", "/b")]


def test_each_complaint_names_the_place_and_the_reason(counted: Folder) -> None:
    counted.write("x", INI + "    [proxy]\n    B = 2\n    /b = none\n    /c = 1\n    /c/ = 1\n")
    assert complaints_of(counted, "counted.proxy=1") == [
        "--set [counted] proxy: no such setting",
        "conf/x.ini [proxy] b = 2: not a path; write /name or /name/name, percent-encoded as in a URL",
        "conf/x.ini [proxy] /b = none: not a count; write a whole number above 0",
        "conf/x.ini [proxy] /c/ = 1: the same as another key: /c",
    ]
    counted.write("x", INI + "    [proxy]\n    /a = 7\n")
    assert complaints_of(counted) == ["conf/x.ini [proxy] /a: the same as one"]


def test_table_unknown_to_the_service_is_a_complaint(counted: Folder) -> None:
    counted.write("x", INI + "    [redirects]\n    /a = 301 /b\n")
    assert complaints_of(counted) == ["conf/x.ini [redirects]: Counted has no such section"]
    counted.write("x", "[daemon]\nservice = launcelot\nport = 1060\n[documents]\n/a = run\n")
    assert complaints_of(counted) == ["conf/x.ini [documents]: Launcelot has no such section"]
