"""``daemons ask`` with daemons of this suite."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.cli.command import main
from tests.operating.folder import Folder
from tests.operating.live import BIN, Live, daemons, environment, free_port

ANSWERS = "My name is Sir Launcelot of Camelot.\nTo seek the Holy Grail.\nBlue.\n"
UNKNOWN = "I don't know that.\n"


@pytest.fixture(scope="module")
def launcelot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Folder, str]]:
    """A project with a running launcelot, and its port."""
    folder = Folder(tmp_path_factory.mktemp("project"))
    port = free_port()
    folder.write("launcelot", f"[daemon]\nservice = launcelot\nlisten = tcp://127.0.0.1:{port} unix:run/l.sock\n")
    with Live(folder.path, "launcelot"):
        yield folder, str(port)


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ((), ANSWERS),
        (("127.0.0.1",), ANSWERS),
        (("localhost",), ANSWERS),
        (("-",), ANSWERS),
        (("-p", "{port}"), ANSWERS),
        (("127.0.0.1", "-p", "{port}"), ANSWERS),
        (("-p", "{port}", "127.0.0.1"), ANSWERS),
        (("-", "What is your quest?"), "To seek the Holy Grail.\n"),
        (("127.0.0.1", "What is your quest?", "What?"), f"To seek the Holy Grail.\n{UNKNOWN}"),
        (("-p", "{port}", "-", "What is your quest?"), "To seek the Holy Grail.\n"),
        (("-", "-p", "{port}", "What is your quest?"), "To seek the Holy Grail.\n"),
        (("-", "What?", "-p", "{port}", "What is your quest?"), f"{UNKNOWN}To seek the Holy Grail.\n"),
        (("-", "--", "--help?"), UNKNOWN),
        (("-p", "{port}", "-", "--", "-h?"), UNKNOWN),
        (("-t", "5"), ANSWERS),
    ],
    ids=" ".join,
)
def test_replies_are_printed_one_per_line(
    launcelot: tuple[Folder, str], capfd: pytest.CaptureFixture[str], words: tuple[str, ...], printed: str
) -> None:
    folder, port = launcelot
    arguments = [word.format(port=port) for word in words]
    assert main(["ask", "launcelot", "--conf", str(folder.conf), *arguments]) == 0
    assert capfd.readouterr() == (printed, "")


def test_installed_command_prints_the_replies(launcelot: tuple[Folder, str]) -> None:
    result = daemons(launcelot[0].path, "ask", "launcelot")
    assert (result.returncode, result.stdout, result.stderr) == (0, ANSWERS, "")


def test_unix_socket_is_used_if_it_is_the_only_listener(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.write("zen", "[daemon]\nservice = zen\nlisten = unix:run/z.sock\n")
    with Live(folder.path, "zen"):
        assert main(["ask", "zen", "--conf", str(folder.conf)]) == 0
        assert capfd.readouterr().out == "Ugly.\nImplicit.\nComplex.\n"
    assert main(["ask", "zen", "--conf", str(folder.conf)]) == 1
    assert capfd.readouterr().err == f"zen: unix:{folder.path}/run/z.sock: no such file or directory\n"


def test_each_question_is_one_datagram_over_udp(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.write("launcelot", "[daemon]\nservice = launcelot\nlisten = udp://127.0.0.1:0\n")
    with Live(folder.path, "launcelot") as daemon:
        port = str(daemon.port)
        ask = ["ask", "launcelot", "--conf", str(folder.conf), "-p", port]
        assert main(ask) == 0
        assert capfd.readouterr() == (ANSWERS, "")
        assert main([*ask, "-t", "0.1", "-", "no question"]) == 1
        silence = "no answer in 0.1 s: I think the server is down, or that it ignores the request as invalid"
        assert capfd.readouterr() == ("", f"launcelot: udp://127.0.0.1:{port}: {silence}\n")
    assert main(ask) == 1
    assert capfd.readouterr() == (
        "",
        f"launcelot: udp://127.0.0.1:{port}: connection refused: no listener on this port\n",
    )


def test_lost_datagram_is_retransmitted(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.write("launcelot", "[daemon]\nservice = launcelot\nlisten = udp://127.0.0.1:1\n")
    received: list[bytes] = []

    def lossy() -> None:
        for _ in range(2):
            question, peer = foreign.recvfrom(100)
            received.append(question)
        foreign.sendto(b"Who asks?", peer)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.settimeout(20.0)
        foreign.bind(("127.0.0.1", 0))
        serving = threading.Thread(target=lossy)
        serving.start()
        port = str(foreign.getsockname()[1])
        assert main(["ask", "launcelot", "--conf", str(folder.conf), "-p", port, "-", "Who?"]) == 0
        serving.join()
    assert set(received) == {b"Who?"}
    assert capfd.readouterr() == ("Who asks?\n", "")


def test_standard_input_is_sent_as_one_datagram_over_udp(folder: Folder) -> None:
    folder.write("udpd", "[daemon]\nservice = udpd\nlisten = udp://127.0.0.1:0\n")
    with Live(folder.path, "udpd") as daemon:
        for data, expected in ((b"hello", b"5 bytes"), (b"", b"0 bytes"), (b"x" * 60_000, b"60000 bytes"), (None, b"")):
            result = subprocess.run(
                [str(BIN / "daemons"), "ask", "udpd", "-p", str(daemon.port), "--stdin"],
                cwd=folder.path,
                env=environment(),
                input=bytes(65_508) if data is None else data,
                capture_output=True,
                timeout=20,
                check=False,
            )
            if data is None:
                assert (result.returncode, result.stderr.endswith(b": message too long\n")) == (1, True)
            else:
                assert (result.stdout, result.stderr) == (b"Your data was %b long\n" % expected, b"")


def test_verbose_output_goes_to_standard_error(
    launcelot: tuple[Folder, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "launcelot", "--conf", str(launcelot[0].conf), "-v"]) == 0
    output = capfd.readouterr()
    assert output.out == ANSWERS
    assert re.fullmatch(r"Client has been assigned socket name \('127\.0\.0\.1', \d+\)\n", output.err)


def test_replies_without_framing_are_read_until_the_connection_closes(
    folder: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    folder.module(
        "shout",
        """
        import socketserver
        import daemons

        class Shout(daemons.Service):
            framing = daemons.Until(b"!", limit=64)

            def respond(self, message):
                return message.upper()

        class Raw(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(self.rfile.read()[::-1])
        """,
    )
    folder.write("shout", "[daemon]\nservice = shout:Shout\nport = 0\n")
    folder.write("raw", "[daemon]\nhandler = shout:Raw\nport = 0\n")
    for name, printed in (("shout", "HO!HA!\n"), ("raw", "!ah!oh\n")):
        with Live(folder.path, name) as daemon:
            arguments = ["ask", name, "--conf", str(folder.conf), "-p", str(daemon.port), "-", "ho!", "ha!"]
            assert main(arguments) == 0
            assert capfd.readouterr() == (printed, "")


def test_closed_standard_output_is_not_reported_as_a_bug(launcelot: tuple[Folder, str]) -> None:
    ask = subprocess.Popen(
        [str(BIN / "daemons"), "ask", "launcelot", "--conf", str(launcelot[0].conf), "-", *["What?"] * 500],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with ask:
        assert ask.stdout is not None
        assert ask.stderr is not None
        assert ask.stdout.readline() == UNKNOWN
        ask.stdout.close()
        assert ask.stderr.read() == ""
        assert ask.wait(20) == 1


def test_words_that_are_not_utf8_are_sent_unchanged(launcelot: tuple[Folder, str]) -> None:
    result = subprocess.run(
        [str(BIN / "daemons"), "ask", "launcelot", "--conf", str(launcelot[0].conf), "-", b"\xff\xfe?"],
        env=environment(LC_ALL="C.UTF-8"),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, UNKNOWN, "")


HELP = """\
usage: daemons ask [-h] [--conf DIR] [--run DIR] [-p PORT] [-t SECONDS]
                   [--cafile FILE] [--stdin] [-v]
                   NAME [HOST] [WORDS ...]

send messages to a daemon, and print the replies

"""


def test_help_describes_the_command_and_its_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(["ask", "-h"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(HELP)
    assert "  -p PORT        its port; else the one in its ini\n" in text
    assert "  HOST           its address; else, or with -, the address in its ini\n" in text
    assert "  -t SECONDS     to wait; else 10\n" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "daemons ask: error: the following arguments are required: NAME"),
        (("launcelot", "--loud"), "daemons: error: unrecognized arguments: --loud"),
        (("launcelot", "-", "-p", "1", "--loud"), "daemons: error: unrecognized arguments: --loud"),
        (("launcelot", "-t", "0"), "daemons ask: error: argument -t: not a number of seconds above 0: '0'"),
        (("launcelot", "-t", "-1"), "daemons ask: error: argument -t: not a number of seconds above 0: '-1'"),
        (("launcelot", "-t", "nan"), "daemons ask: error: argument -t: not a number of seconds above 0: 'nan'"),
        (("launcelot", "-t", "1e99"), "daemons ask: error: argument -t: not a number of seconds above 0: '1e99'"),
    ],
)
def test_wrong_command_line_exits_with_2(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ask", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == expected


@pytest.mark.parametrize("words", [("",), ("-t", "1", "")])
def test_empty_host_is_refused(
    launcelot: tuple[Folder, str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = launcelot
    assert main(["ask", "launcelot", "--conf", str(folder.conf), *words]) == 2
    expected = "launcelot: empty argument HOST; expected an address, or - for the one in the ini\n"
    assert capsys.readouterr() == ("", expected)


def test_other_commands_reject_words_after_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "launcelot", "--port", "0", "word"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("daemons: error: unrecognized arguments: word\n")


def test_wildcard_address_is_replaced_by_the_loopback(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    folder.write("launcelot", f"[daemon]\nservice = launcelot\nhost = 0.0.0.0\nport = {port}\npublic = yes\n")
    with Live(folder.path, "launcelot"):
        assert main(["ask", "launcelot", "--conf", str(folder.conf)]) == 0
        assert capfd.readouterr().out == ANSWERS


def test_address_is_read_from_the_ini_file_for_each_command(
    folder: Folder, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    folder.write("launcelot", f"[daemon]\nservice = launcelot\nport = {closed}\n")
    assert main(["ask", "launcelot", "--conf", str(tmp_path / "conf")]) == 1
    assert capfd.readouterr() == ("", f"launcelot: tcp://127.0.0.1:{closed}: connection refused\n")
