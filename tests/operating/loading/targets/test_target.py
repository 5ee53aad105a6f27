"""Every fault of a target is a complaint about the ini."""

from __future__ import annotations

import pytest

from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder
from tests.operating.loading.targets.loading import complaints, load


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (
            "service = nosuch",
            "there is no module daemons.nosuch in the suite; one of your own is written module:Class",
        ),
        (
            "service = nosuch:Class",
            "there is no module nosuch in {} or the environment; one of your own is written module:Class",
        ),
        (
            "handler = no.such:Class",
            "there is no module no in {} or the environment; one of your own is written module:Class",
        ),
        (
            "service = endings",
            "there is no module daemons.endings in the suite; one of your own is written module:Class",
        ),
        ("service = greeter:Greter", "greeter has no Greter; did you mean Greeter?"),
        ("service = greeter:number", "number is not a subclass of daemons.serving.conversation.service.Service"),
        ("service = socketserver:StreamRequestHandler", "StreamRequestHandler is not a subclass of daemons.serving"),
        ("handler = greeter:Greeter", "Greeter is not a subclass of socketserver.BaseRequestHandler"),
        ("service = greeter:Unframed", "Unframed: no framing; write for example framing = Until(b'?', limit=4096)"),
        ("service = greeter:Mute", "Mute: neither respond() nor talk() is defined; one is expected"),
        ("service = clients", "one Service is expected in daemons.clients, found none; write module:Class"),
    ],
)
def test_target_that_cannot_be_loaded_is_a_complaint_about_the_ini(project: Folder, target: str, reason: str) -> None:
    (complaint,) = complaints(project, target)
    assert complaint.startswith(f"conf/x.ini [daemon] {target}: {reason.format(project.path)}")


def test_a_dependency_that_is_not_installed_is_named(folder: Folder) -> None:
    folder.module("needy", "import no_such_package.part\n")
    assert complaints(folder, "service = needy:Needy") == [
        "conf/x.ini [daemon] service = needy:Needy: needy needs no_such_package, which is not installed"
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        ("def", SyntaxError),
        ("raise KeyError('x')", KeyError),
        ("import os.x", ImportError),
    ],
)
def test_exception_during_import_is_reported(folder: Folder, text: str, error: type[Exception]) -> None:
    folder.module("angry", text)
    with pytest.raises((error, ConfigurationError)):
        load(folder, "service = angry:Angry")
