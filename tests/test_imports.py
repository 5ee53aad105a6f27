"""Imports: modules on the message side of the seam import no sockets, and there are no import cycles."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
MODULES = sorted(PROJECT.glob("daemons/**/*.py"))

#: Modules of the standard library that the sans-IO part may import.  `logging` is for its level numbers; `dataclasses`,
#: `ipaddress` and `re` read the PROXY header; `base64`, `codecs`, `hashlib` and `secrets` are for WebSockets; `os` is
#: for files, and `ssl` for MemoryBIO and SSLObject, which are no sockets; `asyncio`, `concurrent.futures`, `queue` and
#: `threading` are for replies that come later, and for the lock of messages pushed to a peer.
ALLOWED = {
    "daemons.framings": {
        *("__future__", "abc", "collections.abc", "dataclasses", "ipaddress", "re", "struct", "typing", "zlib"),
        *("base64", "codecs", "hashlib", "secrets"),
    },
    "daemons.serving.conversation": {
        *("__future__", "collections", "collections.abc", "enum", "logging", "os", "ssl", "types", "typing"),
        *("asyncio", "concurrent.futures", "queue", "threading"),
    },
}

#: Modules of the suite that the sans-IO part may import: itself.
SANS_IO = tuple(ALLOWED)

#: Never imported: logs go to standard output, and a network byte is never unpickled …
NEVER = {"syslog", "pickle", "marshal", "shelve"}

#: … and modules removed from the standard library in 3.12 and 3.13.
NEVER |= {"asynchat", "asyncore", "imp", "smtpd"} | {
    "cgi",
    "cgitb",
    "crypt",
    "mailcap",
    "nntplib",
    "pipes",
    "telnetlib",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module imported in the file, also in functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports have no names to look for"
            yield node.module or ""


def rule_for(name: str) -> set[str] | None:
    return next((allowed for part, allowed in ALLOWED.items() if name == part or name.startswith(part + ".")), None)


@pytest.mark.parametrize("path", [path for path in MODULES if rule_for(name_of(path)) is not None], ids=name_of)
def test_message_side_of_the_seam_imports_no_sockets(path: Path) -> None:
    allowed = rule_for(name_of(path)) or set()
    for name in imports_of(path):
        assert name in allowed or name.startswith(SANS_IO), f"{name_of(path)} imports {name}"


def test_every_part_of_the_rule_exists() -> None:
    names = {name_of(path) for path in MODULES}
    assert set(ALLOWED) <= names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_forbidden_modules_are_not_imported(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports_of(path)} & NEVER


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).count(".") == 1], ids=name_of)
def test_daemon_imports_only_exports_of_the_package(path: Path) -> None:
    if path.name in ("__init__.py", "__main__.py", "printable.py"):  # the last is used by daemons, and is none
        return
    named = set(imports_of(path)) - {"__future__"}
    # The packages of web and RPC have more exports than authors of other daemons need.
    rooms = ("daemons.framings.http", "daemons.framings.websocket", "daemons.web.", "daemons.rpc.")
    assert not {name for name in named if name.startswith("daemons.") and not name.startswith(rooms)}
    assert any(name.partition(".")[0] == "daemons" for name in named)


def test_daemon_in_several_files_imports_only_exports() -> None:
    for daemon in ("dns", "webapp"):
        allowed = (f"daemons.{daemon}", "daemons.rpc.", "daemons.accounts")
        for path in PROJECT.glob(f"daemons/{daemon}/*.py"):
            named = {name for name in imports_of(path) if name.startswith("daemons.")}
            assert not {name for name in named if not name.startswith(allowed)}, path


def test_accounts_import_no_protocol_and_no_socket() -> None:
    for path in PROJECT.glob("daemons/accounts/*.py"):
        # The network that counts as one peer is plain text and needs no socket.
        named = set(imports_of(path)) - {"daemons.serving.guards.networks", "daemons.serving.guards.wait_limit"}
        assert not {name for name in named if name.startswith("daemons.") and not name.startswith("daemons.accounts")}
        assert not {name.partition(".")[0] for name in named} & {"socket", "socketserver", "ssl", "http", "werkzeug"}


#: The layers, from the lowest up.  A module imports from its own layer and from lower layers.
LAYERS = (
    ("daemons.printable", "daemons.settings", "daemons.framings"),
    ("daemons.serving",),
    ("daemons.accounts",),
    ("daemons.web", "daemons.rpc"),
    ("daemons.operating",),
    ("daemons",),  # the daemons themselves
    ("daemons.clients",),
    ("daemons.cli", "daemons.__main__"),
)


def layer_of(name: str) -> int:
    """Return the number of a module's layer."""
    return max(
        (len(part), layer) for layer, parts in enumerate(LAYERS) for part in parts if f"{name}.".startswith(f"{part}.")
    )[1]


def graph() -> dict[str, set[str]]:
    """Return the modules of the suite that each of them imports: also in functions and for type checkers."""
    known = {name_of(path): path for path in MODULES}
    imports: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imports[name] |= {alias.name for alias in node.names} & known.keys()
            elif isinstance(node, ast.ImportFrom) and node.module:
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                imports[name] |= members & known.keys()
                if not members <= known.keys():
                    imports[name] |= {node.module} & known.keys()
    return imports


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return groups of modules each of which imports all others of its group, if by way of others (Tarjan's strongly
    connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in sorted(imports[name]):
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(imports):
        if name not in number:
            visit(name)
    return found


def test_no_import_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles(graph()) == []


def test_no_import_from_a_higher_layer() -> None:
    imports = graph()
    assert [
        f"{name} imports {other}"
        for name in sorted(imports)
        for other in sorted(imports[name])
        if layer_of(other) > layer_of(name)
    ] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_clients_dial(path: Path) -> None:
    if "clients" in path.parts:
        return
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert "create_connection" not in calls


#: Imports each module as if it were the first; the standard library stays, which makes it quick.
FIRST = """
import importlib, sys, threading
for name in sys.argv[1:]:
    for known in [known for known in sys.modules if known.partition(".")[0] == "daemons"]:
        del sys.modules[known]
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{name}: {error!r}")
assert threading.active_count() == 1
"""


def test_every_module_can_be_imported_first_without_threads_and_output() -> None:
    names = [name_of(path) for path in MODULES if path.name != "__main__.py"]
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", FIRST, *names], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
