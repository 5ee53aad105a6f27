"""The tools ping, forward-reverse, names and whois, and behaviour that all tools share."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daemons.cli.command import main
from daemons.clients import tools
from daemons.clients.dns import forward_reverse
from daemons.clients.dns.forward_reverse import Verdict, compare
from daemons.clients.net import ping
from daemons.clients.net.system import HostAddress
from tests.clients.foreign import Foreign, until_delimiter
from tests.operating.live import type_in

needs_netbase = pytest.mark.skipif(
    not Path("/etc/services").exists() or not Path("/etc/protocols").exists(), reason="netbase is missing: make engines"
)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


def at(*hosts: str, port: int = 0, canonical: str = "") -> list[HostAddress]:
    families = [socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts]
    return [
        HostAddress(family, (host, port, 0, 0) if ":" in host else (host, port), canonical)
        for family, host in zip(families, hosts, strict=True)
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_ping_finds_a_listener(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert main(["ping", host, str(port)]) == 0
    assert capsys.readouterr() == (f"Success: host {host} is listening on port {port}\n", "")


def test_ping_tries_every_address(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()
    hosts = ["127.0.0.2", "127.0.0.1"]
    monkeypatch.setattr(ping, "resolve", lambda *_: at(*hosts, port=port, canonical="evil\x1b[31m"))
    assert main(["ping", "x", str(port)]) == 1
    assert capsys.readouterr() == (
        "",
        "".join(f"Network failure: {host} port {port}: connection refused\n" for host in hosts),
    )
    with socket.create_server(("127.0.0.1", port)):
        assert main(["ping", "x", str(port)]) == 0
    assert capsys.readouterr() == (f"Success: host evil\\x1b[31m is listening on port {port}\n", "")


#: Longer than the limit of 255 bytes for a name, so that it has no address and no server is queried.
TOO_LONG = ".".join(["x" * 60] * 5)


@pytest.mark.parametrize("word", ["ping", "forward-reverse"])
@pytest.mark.parametrize("host", [TOO_LONG, f"bücher.{TOO_LONG}", "a..b", "ü" * 70, "x" * 64, "\udcff", ""])
def test_unknown_name_is_reported_as_name_service_failure(
    word: str, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, host]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("Name service failure: " if word == "ping" else "Forward name service failure: ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ping"], "daemons ping: error: the following arguments are required: HOST"),
        (
            ["ping", "x", "70000"],
            "daemons ping: error: argument SERVICE: '70000': not a port; write a number from 0 to 65535 or a name from "
            "/etc/services",
        ),
        (["forward-reverse"], "daemons forward-reverse: error: the following arguments are required: HOST"),
        (
            ["dns", "x", "--server", "[::1"],
            "daemons dns: error: argument --server: '[::1' is not a server; expected HOST, HOST:PORT or [::1]:PORT",
        ),
        (["whois", "a\nb"], "daemons whois: error: argument NAME: 'a\\nb' is not a name; expected one line of text"),
    ],
)
def test_wrong_command_line_exits_with_2(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("forward", "backward", "verdict"),
    [
        ("www.python.org", "WWW.Python.org.", Verdict.AGREE),
        ("bücher.example", "xn--bcher-kva.example", Verdict.AGREE),
        ("www.python.org", "python.org", Verdict.COMMON),
        ("www.python.org", "lb7.fra.python.org", Verdict.COMMON),
        ("www.bbc.co.uk", "news.bbc.co.uk", Verdict.COMMON),
        ("mail.web.de", "web.de", Verdict.COMMON),
        ("vm", "vm.camelot.test", Verdict.COMMON),
        ("foo.com", "bar.com", Verdict.FOREIGN),
        ("www.foo.com", "www.bar.com", Verdict.FOREIGN),
        ("mit.edu", "edu", Verdict.FOREIGN),
        ("edu", "mit.edu", Verdict.FOREIGN),
        ("foo.co.uk", "bar.co.uk", Verdict.FOREIGN),
        ("foo.co.uk", "co.uk", Verdict.FOREIGN),
        ("www.foo.com.au", "www.bar.com.au", Verdict.FOREIGN),
        ("python.org", "python.com", Verdict.FOREIGN),
        ("python.org", "notpython.org", Verdict.FOREIGN),
        ("vm", "localhost", Verdict.FOREIGN),
    ],
)
def test_names_are_compared_by_registered_domain(forward: str, backward: str, verdict: Verdict) -> None:
    assert compare(forward, backward) is verdict


def test_forward_reverse_agrees_for_localhost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forward-reverse", "127.0.0.1"]) == 0
    name = socket.getnameinfo(("127.0.0.1", 0), socket.NI_NAMEREQD)[0]
    out = capsys.readouterr().out
    assert out == f"127.0.0.1 has the canonical hostname {name}\nThe reverse name leads back to the address\n"
    assert main(["forward-reverse", name]) == 0
    assert "Wow, the names agree completely!\n" in capsys.readouterr().out


AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NOT_FOUND = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("reverse", "forward", "out", "err"),
    [
        ("www.x.test", ["192.0.2.1"], "Wow, the names agree completely!", ""),
        ("a.x.test", ["::1", "192.0.2.1"], "The forward and reverse names have a lot in common", ""),
        ("y.test", ["192.0.2.1"], "", "WARNING! The reverse name belongs to a different organization"),
        ("www.x.test", ["192.0.2.2"], "", "WARNING! The reverse name does not lead back to 192.0.2.1"),
        ("www.x.test", NOT_FOUND, "", "WARNING! The reverse name does not lead back to 192.0.2.1"),
        ("a..x\x1b", UnicodeError("label empty"), "", "WARNING! The reverse name does not lead back to 192.0.2.1"),
        (None, [], "", "WARNING! The IP address 192.0.2.1 has no reverse name"),
        (AGAIN, [], "", "Reverse name service failure: temporary failure in name resolution"),
        ("a.x.test", AGAIN, "", "Reverse name service failure: temporary failure in name resolution"),
    ],
)
def test_forward_reverse_reports_each_verdict(
    reverse: Any, forward: Any, out: str, err: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's name service cannot be made to return these results, so they are substituted."""

    def answer(result: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    looked_up: list[str] = []

    def first_then_told(host: str) -> list[HostAddress]:
        looked_up.append(host)
        return at("192.0.2.1") if len(looked_up) == 1 else at(*answer(forward))

    monkeypatch.setattr(forward_reverse, "resolve", first_then_told)
    monkeypatch.setattr(forward_reverse, "reverse", lambda address: answer(reverse))
    assert main(["forward-reverse", "www.x.test"]) == (1 if err else 0)
    output = capsys.readouterr()
    assert output.out.startswith("www.x.test has IP address 192.0.2.1\n")
    assert output.out.endswith(f"{out}\n" if out else "")
    assert output.err == (f"{err}\n" if err else "")
    assert "\x1b" not in output.out


@needs_netbase
def test_names_prints_the_results_of_the_system_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["names", "127.0.0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"gethostname() = {socket.gethostname()!r}"
    assert lines[1].startswith("getfqdn() = ")
    assert lines[2] == "gethostbyname('127.0.0.1') = '127.0.0.1'"
    assert lines[3] == f"gethostbyaddr('127.0.0.1') = {socket.gethostbyaddr('127.0.0.1')!r}"
    assert lines[4:] == ["getprotobyname('UDP') = 17", "getservbyname('www') = 80", "getservbyport(80) = 'http'"]


@needs_netbase
def test_names_agrees_with_getent(capsys: pytest.CaptureFixture[str]) -> None:
    main(["names", "localhost", "--protocol", "tcp", "--service", "smtp"])
    out = capsys.readouterr().out
    for database, call in (("protocols", "getprotobyname('tcp')"), ("services", "getservbyname('smtp')")):
        word = call.split("'")[1]
        number = subprocess.run(["getent", database, word], capture_output=True, text=True, check=True).stdout.split()[
            1
        ]
        assert f"{call} = {number.partition('/')[0]}\n" in out


def test_names_continues_after_a_failed_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["names", "a\x1b..b", "--protocol", "no", "--service", "no"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        "gethostbyname('a\\x1b..b')",
        "gethostbyaddr('a\\x1b..b')",
        "getprotobyname('no')",
        "getservbyname('no')",
    ]


def test_whois_prints_the_reply_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def registrar(client: socket.socket) -> None:
        foreign.received.append(until_delimiter(client, b"\r\n"))
        if foreign.received[-1] != b"absent\r\n":
            client.sendall("domain: bücher.example\r\nrefer: \x1b[31mred\r\n".encode() + b"\xff\r\n")

    with Foreign(registrar) as foreign:
        server = f"127.0.0.1:{foreign.port}"
        assert main(["whois", "bücher.example", "--server", server]) == 0
        assert capsys.readouterr() == ("domain: bücher.example\nrefer: \\x1b[31mred\n\\xff\n", "")
        assert main(["whois", "absent", "--server", server]) == 1
        assert capsys.readouterr() == ("", "daemons whois: 127.0.0.1 closed the connection without a reply\n")
    assert foreign.received == ["bücher.example\r\n".encode(), b"absent\r\n"]
    assert main(["whois", "x", "--server", server]) == 1
    expected = f"daemons whois: 127.0.0.1 port {server.partition(':')[2]}: connection refused\n"
    assert capsys.readouterr() == ("", expected)


def test_help_lists_every_tool_and_each_tool_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["-h"])
    listed = capsys.readouterr().out
    for word, tool in tools.TOOLS.items():
        assert f"\n    {word} " in listed or f"\n    {word}\n" in listed
        with pytest.raises(SystemExit) as ended:
            main([word, "-h"])
        assert ended.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert text.startswith(f"usage: daemons {word} [-h] ")
        assert tool.help in text
        assert "Exit codes: 0 " in text


#: Simulates missing dnspython and httpx2, and checks that tools are imported only when used.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("dns", "httpx2"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from daemons.cli.command import main
main(["list"])
unused = {"daemons.clients.dns.resolving", "daemons.clients.net.ping", "httpx2"}
assert not unused & sys.modules.keys()
for words in (
    ["mx", "x"], ["dns", "x"], ["names", "127.0.0.1"], ["run", "dns"], ["fetch", "http://x/"], ["url", "x"]
):
    print(words[0], main(words))
"""


@needs_netbase
def test_missing_dnspython_is_reported_by_the_tools_that_need_it(tmp_path: Any) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/dns.ini").write_text("[daemon]\nservice = dns\nport = 0\n")
    done = type_in(tmp_path, sys.executable, "-c", WITHOUT)
    codes = [
        line for line in done.stdout.splitlines() if line.startswith(("mx", "dns", "names", "run", "fetch", "url"))
    ]
    assert codes == ["mx 1", "dns 1", "names 0", "run 100", "fetch 1", "url 0"], done
    needs = "conf/dns.ini [daemon] service = dns: daemons.dns needs dns, which is not installed: pip install"
    missing = "the package dnspython is not installed: pip install 'camelot-daemons[dns]'"
    assert done.stderr.splitlines() == [
        f"{needs} 'camelot-daemons[all]'",
        f"daemons mx: {missing}",
        f"daemons dns: {missing}",
        f"dns: {needs} 'camelot-daemons[all]'",
        "daemons fetch: the package httpx2 is not installed: pip install 'camelot-daemons[fetch]'",
    ]


@pytest.mark.parametrize("word", ["mtu", "dns", "mx", "names", "tls-report"])
def test_empty_host_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([word, ""])
    assert ended.value.code == 2
    assert "empty argument" in capsys.readouterr().err
