"""``daemons check``, ``list`` and ``show``: exact output."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from daemons.cli.command import main
from tests.operating.folder import GOOD, Folder

ZEN = "[daemon]\nservice = zen\nlisten = unix:run/zen.sock tcp://[::1]:1070\nengine = forks\nprocesses = 2\n"

OPTIONS = """
    \"\"\"Counts.

    And more.
    \"\"\"
    import dataclasses
    import daemons

    @dataclasses.dataclass(frozen=True)
    class Options:
        first: int = daemons.setting(daemons.COUNT, 1, "where it begins")
        pause: float = daemons.setting(daemons.DURATION, 1.5, "between two")

    class Counter(daemons.Service):
        framing = daemons.Until(b"!", limit=64)
        Options = Options

        def respond(self, message):
            return message
"""


@pytest.fixture
def suite(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A project with two daemons, and a terminal in it."""
    folder.write("launcelot", GOOD)
    folder.write("zen", ZEN)
    monkeypatch.chdir(folder.path)
    monkeypatch.delenv("DAEMONS_CONF", raising=False)
    return folder


def typed(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run ``daemons WORDS``; return its exit code, standard output and standard error."""
    capfd.readouterr()
    code = main(words)
    return code, *capfd.readouterr()


def test_check_prints_ok_and_the_checked_names(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    assert typed(capfd, "check") == (0, "OK: launcelot, zen\n", "")
    (suite.path / "supervisord.conf").write_text("[supervisord]\n")
    assert typed(capfd, "check") == (
        0,
        "OK: launcelot, zen; supervisord.conf\n",
        "note: conf/launcelot.ini: no [program:x] of supervisord.conf runs it\n"
        "note: conf/zen.ini: no [program:x] of supervisord.conf runs it\n",
    )


def test_check_prints_all_complaints_at_once(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    suite.write("a", "[daemon]\nservce = zen\nport = 1\n")
    suite.write("b", "[daemon]\nservice = nosuch\nport = 1060\n")
    suite.write("c", "[daemon]\nservice = angry:Angry\nport = 2\n")
    suite.write("logging", "[loggers]\nkeys = root\n")
    suite.module("angry", "1 / 0")
    (suite.path / "supervisord.conf").write_text(
        "[supervisord]\n[program:x]\ncommand = daemons run zen\nstopwait = 5\nstopwaitsecs = 9\n"
    )
    assert typed(capfd, "check") == (
        100,
        "",
        "conf/a.ini [daemon] servce: no such setting; did you mean service?\n"
        "conf/a.ini [daemon] service: missing; write service = NAME or module:Class\n"
        "conf/b.ini [daemon] service = nosuch: there is no module daemons.nosuch in the suite; "
        "write a class of your own as module:Class\n"
        "conf/c.ini [daemon] service = angry:Angry: angry.py line 1: ZeroDivisionError: division by zero\n"
        "conf/logging.ini: KeyError: 'formatters'\n"
        "conf/launcelot.ini [daemon] tcp://127.0.0.1:1060: conf/b.ini has tcp://127.0.0.1:1060 already\n"
        "supervisord.conf [program:x] stopwait: no such setting; did you mean stopwaitsecs?\n"
        "supervisord.conf [program:x] stopwaitsecs = 9: must be 10 or more: drain_timeout is 8 s, and "
        "closing the remaining connections takes up to 2 s; supervisord would kill the daemon first\n"
        + "".join(
            f"note: conf/{name}.ini: no [program:x] of supervisord.conf runs it\n"
            for name in ("a", "b", "c", "launcelot")
        ),
    )


def test_fault_of_a_shared_file_is_reported_once(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    suite.write("defaults", "[limits]\nidle_timout = 1s\n")
    code, out, err = typed(capfd, "check")
    assert (code, out) == (100, "")
    assert err == "conf/defaults.ini [limits] idle_timout: no such setting; did you mean idle_timeout?\n"


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", True),
        ("tcp://127.0.0.1:1", "tcp://0.0.0.0:1", True),
        ("tcp://127.0.0.1:1", "tcp://localhost:1", True),
        ("tcp://[::1]:1", "tcp://localhost:1", True),
        ("tcp://127.0.0.1:1", "tcp://:1", True),
        ("tcp://[::]:1", "tcp://:1", True),
        ("unix:run/x", "unix:run/x", True),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", False),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", False),
        ("tcp://127.0.0.1:1", "tcp://127.0.0.2:1", False),
        ("tcp://127.0.0.1:1", "tcp://[::1]:1", False),
        ("tcp://0.0.0.0:1", "tcp://[::]:1", False),
        ("tcp://127.0.0.1:1", "tcp://[::]:1", False),
        ("unix:run/x", "tcp://127.0.0.1:1", False),
    ],
)
def test_two_daemons_with_one_address_are_both_named(
    suite: Folder, capfd: pytest.CaptureFixture[str], one: str, other: str, collide: bool
) -> None:
    for name, where in (("launcelot", one), ("zen", other)):
        suite.write(name, f"[daemon]\nservice = {name}\nlisten = {where}\npublic = yes\n")
    code, out, err = typed(capfd, "check")
    if collide:
        shown = [each.replace("run/", f"{suite.path}/run/") for each in (other, one)]
        assert err == f"conf/zen.ini [daemon] {shown[0]}: conf/launcelot.ini has {shown[1]} already\n"
    assert (code, out) == ((100, "") if collide else (0, "OK: launcelot, zen\n"))


def test_list_has_one_line_for_each_daemon(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    assert typed(capfd, "list") == (
        0,
        "launcelot  tcp://127.0.0.1:1060                threads    Answer the questions put to Sir Launcelot.\n"
        "zen        unix:run/zen.sock tcp://[::1]:1070  forks x 2  Complete aphorisms from the Zen of Python.\n",
        "",
    )


@pytest.mark.parametrize(("text", "shown"), [("", ""), ("    'Tells the time.'\n", "  Tells the time.")])
def test_list_shows_the_docstring_of_a_daemon(
    suite: Folder, capfd: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    """The docstring of its base class is not shown."""
    suite.module("clock", f"import daemons\nclass Clock(daemons.Service):\n{text}    framing = None\n")
    for name in ("launcelot", "zen"):
        (suite.conf / f"{name}.ini").unlink()
    suite.write("clock", "[daemon]\nservice = clock:Clock\nport = 1\n")
    assert typed(capfd, "list") == (0, f"clock  tcp://127.0.0.1:1  threads{shown}\n", "")


def test_description_in_the_ini_replaces_the_docstring(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    (suite.conf / "zen.ini").unlink()
    suite.write("launcelot", "[daemon]\nservice = launcelot\nport = 1\ndescription = Once more.\n")
    assert typed(capfd, "list") == (0, "launcelot  tcp://127.0.0.1:1  threads  Once more.\n", "")


def test_list_shows_valid_daemons_and_complaints_about_others(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    suite.write("zen", "[daemon]\nport = 1\n")
    suite.write("c", "[daemon]\nservice = angry:Angry\nport = 2\n")
    suite.module("angry", "raise RuntimeError('no')")
    assert typed(capfd, "list") == (
        100,
        "launcelot  tcp://127.0.0.1:1060  threads  Answer the questions put to Sir Launcelot.\n",
        "conf/c.ini [daemon] service = angry:Angry: angry.py line 1: RuntimeError: no\n"
        "conf/zen.ini [daemon] service: missing; write service = NAME or module:Class\n",
    )


@pytest.mark.parametrize("word", ["check", "list"])
def test_folder_without_a_daemon_is_an_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], word: str
) -> None:
    monkeypatch.chdir(folder.path)
    monkeypatch.delenv("DAEMONS_CONF", raising=False)
    expected = "no daemon's ini is in this folder; name another with --conf DIR\n"
    assert typed(capfd, word) == (100, "", f"conf: {expected}")
    assert typed(capfd, word, "--conf", "/nowhere") == (100, "", f"/nowhere: {expected}")


SHOWN = """\
counter: Counts.
listens at unix:run/c.sock

[daemon]
service               counter:Counter          conf/counter.ini
host                  127.0.0.1                built in
listen                unix:run/c.sock          conf/counter.ini
public                no                       built in
engine                forks                    --engine
processes             auto (CORES)                  --processes
threads               16                       built in
socket_mode           0660                     built in
idle_exit             off                      built in
backlog               1024                     built in

[limits]
max_connections       auto (200)               built in
max_per_peer          auto (EACH)                  built in
max_rate              100/m                    --set
amplification         1                        built in
receive_buffer        auto                     built in
spool                 off                      built in
outbox                256KiB                   built in
body                  auto                     built in
held                  256MiB                   built in
response              64MiB                    built in
handshake_timeout     10s                      built in
message_timeout       30s                      built in
idle_timeout          90s                      conf/defaults.ini
write_timeout         30s                      built in
conversation_timeout  1h                       built in
drain_timeout         8s                       built in

[access]

[tls]
minimum               1.2                      built in

[metrics]

[drop]

[log]
requests              combined                 built in
size                  64KiB                    conf/defaults.ini
backups               5                        built in

[counter]
first                 3                        conf/counter.ini
pause                 1.5s                     built in
"""


def test_show_prints_every_setting_and_its_origin(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    suite.module("counter", OPTIONS)
    suite.write("counter", "[daemon]\nservice = counter:Counter\nlisten = unix:run/c.sock\n[counter]\nfirst = 3\n")
    suite.write("defaults", "[limits]\nidle_timeout = 90s\n[log]\nsize = 64KiB\n")
    options = ("--engine", "forks", "--processes", "auto", "--set", "limits.max_rate=100/m")
    cores = len(os.sched_getaffinity(0))
    shown = SHOWN
    for name, value in (("CORES", cores), ("EACH", -(-200 // cores) // 2)):
        shown = re.sub(rf"auto \({name}\) +", f"auto ({value})".ljust(25), shown)
    assert typed(capfd, "show", "counter", *options) == (0, shown, "")


@pytest.mark.parametrize(
    ("section", "line", "expected"),
    [
        ("daemon", "port = 1060 ; the book's", "not a port"),
        ("daemon", "port = 1060 # the book's", "not a port"),
        ("daemon", "engine = loop\t; fast", "write one, threads"),
        ("daemon", "listen = tcp://127.0.0.1:1060 ; here", "not an address"),
        ("daemon", "public = yes ; all", "neither yes nor no"),
        ("daemon", "processes = auto # one each", "not a count"),
        ("limits", "idle_timeout = 5m ; minutes", "not a duration"),
        ("limits", "body = 1MiB # large", "not a size"),
        ("access", "allow = 127.0.0.1 ; here", ""),
        ("log", "requests = common ; short", "write combined"),
        ("counter", "first = 3 ; three", "not a count"),
    ],
)
def test_comment_behind_a_value_gets_a_hint(
    suite: Folder, capfd: pytest.CaptureFixture[str], section: str, line: str, expected: str
) -> None:
    suite.module("counter", OPTIONS)
    rest = "" if line.startswith(("port", "listen")) else "port = 1\n"
    lines = {"daemon": f"service = counter:Counter\n{rest}"}
    lines[section] = lines.get(section, "") + line + "\n"
    suite.write("counter", "".join(f"[{name}]\n{text}" for name, text in lines.items()))
    code, _, err = typed(capfd, "show", "counter")
    assert code == 100
    assert err.count("\n") == 1
    assert expected in err
    assert err.endswith("; a comment needs a line of its own\n")


def test_comment_behind_a_service_gets_a_hint(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    suite.write("x", "[daemon]\nservice = launcelot ; the brave\nport = 1\n")
    _, _, err = typed(capfd, "show", "x")
    assert err.endswith(", or module:Class; a comment needs a line of its own\n")


@pytest.mark.parametrize("command", ["check", "list"])
def test_module_that_exits_after_its_import_is_a_complaint(
    suite: Folder, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    suite.module("leaving", "import sys\n\n\ndef __getattr__(name):\n    sys.exit(0)\n")
    suite.write("leaving", "[daemon]\nservice = leaving:Service\nport = 0\n")
    assert main([command, "--conf", str(suite.conf)]) == 100
    assert "conf/leaving.ini" in capfd.readouterr().err


def test_show_prints_complaints(suite: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    assert typed(capfd, "show", "launcelo") == (
        100,
        "",
        "launcelo: conf/launcelo.ini: no such file; did you mean launcelot?\n",
    )
    suite.write("launcelot", GOOD + "[launcelot]\ncolour = blue\n")
    assert typed(capfd, "show", "launcelot") == (
        100,
        "",
        "launcelot: conf/launcelot.ini [launcelot] colour: Launcelot has no options\n",
    )


def test_complaint_names_another_conf_folder(suite: Folder, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = tmp_path / "etc"
    os.rename(suite.conf, other)
    (other / "x.ini").write_text("[daemon]\nport = 1\n")
    code, _, err = typed(capfd, "check", "--conf", str(other))
    assert code == 100
    assert err == "etc/x.ini [daemon] service: missing; write service = NAME or module:Class\n"


@pytest.mark.parametrize("words", [["check"], ["list"], ["show", "x\x1b"], ["stats"], ["stats", "x\x1b"]])
def test_names_and_values_cannot_control_the_terminal(
    words: list[str], suite: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    suite.write("x\x1b", GOOD.replace("1060", "1079") + "description = a\x1b\u202e\n")
    main(words)
    printed = "".join(capfd.readouterr())
    assert "x\\x1b" in printed
    assert not re.search("[\x1b\u202e]", printed)
