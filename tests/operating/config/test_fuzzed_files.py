"""Fuzzed configuration files: `daemons check` accepts them or reports a complaint."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from daemons.accounts import users_file
from daemons.accounts.hashes import hash_password
from daemons.cli import inspection
from daemons.dns.zones import read_zone
from daemons.rpc.users import line_for
from tests.accounts.files import CHEAP
from tests.operating.folder import GOOD, Folder

CONF = Path(__file__).resolve().parents[3] / "conf"

SHIPPED = {path.name: path.read_text("utf-8").splitlines() for path in sorted(CONF.glob("*.ini"))}

#: The site more often: it has more to it than the others.
NAMES = [*sorted(set(SHIPPED) - {"logging.ini", "defaults.ini"}), *["httpd.ini"] * 8]

several = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)

#: What values are made of, and nearly made of.
WORDS = st.sampled_from(
    [
        *(
            "yes",
            "no",
            "auto",
            "1",
            "0",
            "-1",
            "65536",
            "10s",
            "0s",
            "9" * 9 + "d",
            "64KiB",
            "/",
            "/a",
            "/a/*",
            "/%2e%2e",
        ),
        *(
            "..",
            "conf",
            "conf/users",
            "run/x",
            "301 /b",
            "410",
            "308 //evil",
            "http://127.0.0.1:1",
            "http://[::1",
            "unix:x",
        ),
        *(
            "tcp://127.0.0.1:1",
            "tls://[::1]:1",
            "udp://0.0.0.0:1",
            "fd://3",
            "127.0.0.0/8",
            "300.0.0.0/8",
            "::/0",
            "off",
        ),
        *(
            "en de",
            "en EN",
            "$time",
            "$",
            "%(x)s",
            '"A realm" conf/users',
            "localhost",
            "[::1]",
            "é",
            "\u0663",
            "\x1b[2J",
            "=",
        ),
    ]
)
SECTIONS = st.sampled_from(
    [
        *("daemon", "limits", "access", "log", "tls", "metrics", "drop", "httpd", "webapp", "dns", "rpc", "jsonrpc"),
        *("redirects", "protected", "documents", "proxy", "DEFAULT", ""),
    ]
)
LINES = st.one_of(
    st.builds("[{}]".format, SECTIONS),
    st.builds("{} = {}".format, st.sampled_from(["/a", "/a/*", "/", "/%41", "/\xe4", "//", "a"]), WORDS | TEXT),
    st.builds("  {}".format, WORDS),
    TEXT,
)


def mutated(lines: list[str]) -> st.SearchStrategy[str]:
    """These lines, including commented ones, with some of them missing, doubled, or moved,
    and, mostly, with another value."""
    shown = [re.sub(r"^#(\[\w+\]|\S+ = .*)$", r"\1", line) for line in lines]
    kept = [line for line in shown if line.strip() and line.strip()[0] not in "#;"]
    values = st.builds(lambda line, value: f"{line.partition('=')[0]}= {value}", st.sampled_from(kept), WORDS | TEXT)
    changes = st.tuples(
        st.integers(0, len(kept)),
        st.just(1) | st.integers(0, 2),
        st.one_of(values, values, values, st.sampled_from(kept), LINES),
    )

    def change(made: list[tuple[int, int, str]]) -> str:
        found = kept[:]
        for at, gone, line in made:
            found[at : at + gone] = [line]
        return "\n".join(found)

    return st.lists(changes, min_size=0, max_size=2).map(change)


@pytest.fixture
def project(folder: Folder) -> Folder:
    """A folder with the files that the shipped inis name."""
    for path in CONF.iterdir():
        if path.is_dir():
            shutil.copytree(path, folder.conf / path.name)
        elif path.suffix != ".ini":
            shutil.copy(path, folder.conf)
    (folder.conf / "users").touch()
    return folder


def checked(folder: Folder) -> list[str]:
    """Return the complaints of `daemons check`."""
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        code = inspection.check(folder.conf)
    found = [line for line in said.getvalue().splitlines() if not line.startswith("note: ")]
    assert code == (100 if found else 0)
    return found


@given(st.sampled_from(NAMES).flatmap(lambda name: mutated(SHIPPED[name])))
@example("[daemon]\nservice = launcelot\nport = 1\nhost = a\n  b\x85\u2028")
@several
def test_each_complaint_about_a_changed_ini_names_the_place(project: Folder, text: str) -> None:
    """For any text in conf/NAME.ini, `check` prints OK, or lines that each begin with the file, and none reports an
    exception."""
    (project.conf / "x.ini").write_text(text, "utf-8", newline="")
    for line in checked(project):
        assert line.startswith("conf/x.ini")
        assert "cannot be imported" not in line
        assert line.isprintable()


#: A fixed set of lines, because logging evaluates the value of args: arbitrary text would be executed.
LOGGING = [
    *SHIPPED["logging.ini"],
    "keys = root, access",
    "keys =",
    "args = (1, 2)",
    "args = (",
    "level = LOUD",
    "[x]",
    "y",
]


@given(st.lists(st.sampled_from(LOGGING), max_size=30).map("\n".join))
@several
def test_any_lines_of_logging_are_a_logging_or_one_complaint(folder: Folder, text: str) -> None:
    """For any lines in logging.ini, `check` prints OK, or one line that begins with the file."""
    folder.write("x", GOOD)
    (folder.conf / "logging.ini").write_text(text, "utf-8")
    assert [line.partition(":")[0] for line in checked(folder)] in ([], ["conf/logging.ini"])


#: Sample lines of each file, and its reader.
FILES: dict[str, tuple[list[str], Callable[[str], object]]] = {
    "users": ([f"arthur:{hash_password('x', CHEAP)}", line_for("robin")[1]], users_file.read),
    "zone": ((CONF / "camelot.zone").read_text("utf-8").splitlines(), read_zone),
}


@given(st.sampled_from(sorted(FILES)).flatmap(lambda name: st.tuples(st.just(name), st.data())), st.binary(max_size=4))
@several
def test_any_bytes_are_users_or_a_zone_or_a_complaint(
    tmp_path: Path, which: tuple[str, st.DataObject], noise: bytes
) -> None:
    """For any changed users file or zone file, the reader returns its content or raises `ValueError`."""
    name, data = which
    lines, read = FILES[name]
    octets = data.draw(mutated(lines)).encode()
    at = data.draw(st.integers(0, len(octets)))
    path = tmp_path / name
    path.write_bytes(octets[:at] + noise + octets[at + len(noise) :])
    path.chmod(0o600)
    with suppress(ValueError):
        read(str(path))
