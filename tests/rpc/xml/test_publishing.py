"""``rpc =`` in an ini."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemons.cli import inspection
from daemons.operating.config import ini
from daemons.operating.loading.targets import target_of
from daemons.rpc.users import line_for, main
from daemons.serving.engines import stream_server
from daemons.settings.complaints import ConfigurationError
from tests.operating.conftest import _as_found, folder
from tests.operating.folder import Folder
from tests.rpc.calling import call, post, visit_server

__all__ = ["_as_found", "folder"]

CONF = Path(__file__).parents[3] / "conf"

SUMS = '''
    """Sums.

    And more."""
    __all__ = ["double"]

    class Twice:
        def double(self, x: int) -> int:
            return 2 * x

    def double(x: int) -> int:
        """Doubles x."""
        return 2 * x

    twice = Twice()
    nothing = 3
'''


def published(folder: Folder, ini: str = "rpc = sums", *overrides: str) -> Any:
    folder.module("sums", SUMS)
    folder.write("x", f"[daemon]\nport = 0\nengine = loop\n{ini}\n")
    handlers = target_of(folder.read(*overrides)).request_handlers()
    made: Any = stream_server
    kind = made("loop", handlers.server_class)
    return visit_server(kind(("127.0.0.1", 80), handlers.stream, bind_and_activate=False))


@pytest.mark.parametrize("ini", ["rpc = sums", "rpc = sums:twice"])
def test_a_module_or_an_object_is_published(folder: Folder, ini: str) -> None:
    with published(folder, ini) as there:
        assert call(there, "double", 21) == 42
        assert b"<title>x</title>" in post(there, b"", method="GET", path="/").body


def test_options(folder: Folder) -> None:
    options = ("rpc.path=/sums", "rpc.introspection=no", "rpc.multicall=no", "rpc.page=no", "rpc.allow_none=no")
    with published(folder, "rpc = sums", *options) as there:
        assert post(there, b"", path="/").status == 404
        assert post(there, b"", method="GET", path="/sums").status == 405
        for name in (b"system.listMethods", b"system.multicall"):
            body = b"<methodCall><methodName>%b</methodName></methodCall>" % name
            assert b"is not supported" in post(there, body, path="/sums").body


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rpc = sums:no", "conf/x.ini [daemon] rpc = sums:no: sums has no no"),
        ("rpc = sums:Twice", "conf/x.ini [daemon] rpc = sums:Twice: Twice is a class; publish an instance of it"),
        ("rpc = sums:nothing", "conf/x.ini [daemon] rpc = sums:nothing: an instance of int has no methods to publish"),
        ("rpc = nowhere", "conf/x.ini [daemon] rpc = nowhere: there is no module nowhere in "),
        ("rpc = textwrap:", "conf/x.ini [daemon] rpc = textwrap:: write module, for the functions in its __all__, or"),
        ("rpc = this", "conf/x.ini [daemon] rpc = this: this has no __all__; write __all__ = [...]"),
        ("rpc = sums\nservice = zen", "conf/x.ini [daemon] rpc: there is a service too; write only one of the two"),
        ("rpc = sums\n[rpc]\npath = sums", "conf/x.ini [rpc] path = sums: not the paths of URLs; write / or /RPC2"),
        (
            "rpc = sums\n[rpc]\nusers = none",
            "conf/x.ini [rpc] users = none: none: no such file; create it with `daemons password none NAME`",
        ),
        (
            "rpc = sums\n[rpc]\nusers = open",
            "conf/x.ini [rpc] users = open: open: mode 0644 lets every user of this machine read it; use chmod 640",
        ),
        (
            "rpc = sums\n[rpc]\nusers = odd",
            "conf/x.ini [rpc] users = odd: odd: line 2: not a hash; expected scrypt$N$R$P$SALT$HASH or",
        ),
        (
            "rpc = sums\n[rpc]\nusers = twice",
            "conf/x.ini [rpc] users = twice: twice: line 2: duplicate user robin",
        ),
        (
            "rpc = sums\n[rpc]\nusers = empty",
            "conf/x.ini [rpc] users = empty: empty: no users; add one with `daemons password FILE NAME`",
        ),
        ("rpc = sums\n[rpc]\npaths = /", "conf/x.ini [rpc] paths: no such setting; did you mean path?"),
        (
            "rpc = sums\nhost = 0.0.0.0\npublic = yes\n[rpc]\nusers = good",
            "conf/x.ini [rpc] users: secrets would cross the network in the clear at tcp://0.0.0.0:0; write",
        ),
    ],
)
def test_invalid_ini_is_refused(folder: Folder, text: str, reason: str) -> None:
    line = line_for("robin")[1]
    for name, lines, mode in (
        ("open", [line], 0o644),
        ("odd", ["# a note", "robin:secret"], 0o600),
        ("twice", [line, line], 0o600),
        ("empty", [""], 0o600),
        ("good", [line], 0o600),
    ):
        (folder.path / name).write_text("\n".join(lines) + "\n")
        (folder.path / name).chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        published(folder, text)
    assert caught.value.complaints[0].startswith(reason)


@pytest.mark.parametrize("name", ["adder", "calc", "rpcmath"])
def test_shipped_daemons_publish_their_methods(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ini.read(CONF, name)
    assert settings.daemon.engine == "loop"
    assert inspection.show(settings) == 0
    assert "multicall             yes                      built in\n" in capsys.readouterr().out


def test_a_secret_is_made_and_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robin"]) == 0
    secret, line = capsys.readouterr().out.splitlines()
    assert len(secret.split()[1]) == 22
    assert line.split()[1].startswith("robin:")
    assert [main(["a:b"]), main([])] == [2, 2]
    assert "'a:b' is not a user name" in capsys.readouterr().err
