"""`daemons dns`, `daemons mx`, `daemons ask dns` and dig with the daemon dns and its shipped zones."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dns.message
import dns.name
import dns.rrset
import pytest

from daemons.cli.command import main
from daemons.clients.dns import mx, resolving, single_query
from tests.operating.folder import Folder
from tests.operating.live import Live, free_port

CONF = Path(__file__).parents[3] / "conf"

needs_dig = pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed: make engines")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Folder, str]]:
    """A project with a running dns, and its port, the same for UDP and TCP."""
    folder = Folder(tmp_path_factory.mktemp("project"))
    port = free_port()
    folder.write(
        "dns",
        f"""
        [daemon]
        service = dns
        listen = udp://127.0.0.1:{port} tcp://127.0.0.1:{port}
        engine = loop

        [dns]
        zone = {CONF}/camelot.zone {CONF}/127.zone
        """,
    )
    with Live(folder.path, "dns"):
        yield folder, str(port)


@pytest.fixture
def resolver(server: tuple[Folder, str]) -> resolving.Resolver:
    return resolving.Resolver(("127.0.0.1", int(server[1])), 10.0)


MAIL = "    Hostname mail.camelot.test = A 127.0.0.25\n    Hostname mail.camelot.test = AAAA ::1\n"
BACKUP = "Priority: 20   Hostname: backup.camelot.test\n    Hostname backup.camelot.test = A 127.0.0.26\n"
SPARE = "Priority: 20   Hostname: spare.camelot.test\n    Hostname spare.camelot.test = A 127.0.0.27\n"
DRAT = (
    "Drat, this domain has no explicit MX records\n"
    "We will have to try resolving it as an A, AAAA, or CNAME\n"
)  # fmt: skip
LOOP = "ni.camelot.test, peng.camelot.test, neee-wom.camelot.test, ni.camelot.test"


def servers_of(domain: str, *equal: str) -> str:
    return (
        f"The domain {domain!r} has explicit MX records!\nTry the servers in this order:\n"
        f"Priority: 10   Hostname: mail.camelot.test\n{MAIL}{''.join(equal)}"
        f"Priority: 30   Hostname: post.camelot.test\n"
        f"    Hostname post.camelot.test is an alias for mail.camelot.test\n{MAIL}"
    )


def test_mx_prints_servers_sorted_by_preference(server: tuple[Folder, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mx", "camelot.test", "--server", f"127.0.0.1:{server[1]}"]) == 0
    out, err = capsys.readouterr()
    assert out in (servers_of("camelot.test", BACKUP, SPARE), servers_of("camelot.test", SPARE, BACKUP))
    assert err == ""


@pytest.mark.parametrize(
    ("domain", "out", "err"),
    [
        ("shrubbery", f"{DRAT}    Hostname shrubbery.camelot.test = A 127.0.0.30\n", ""),
        ("lady", f"{DRAT}    Hostname lady.camelot.test = AAAA ::1\n", ""),
        ("merlin", DRAT, "    ERROR: no records for merlin.camelot.test\n"),
        ("absent", "", "ERROR: no records for absent.camelot.test\n"),
        (
            "dangling",
            "Hostname dangling.camelot.test is an alias for nowhere.camelot.test\n",
            "ERROR: no records for nowhere.camelot.test\n",
        ),
        ("swallow", "", "The domain 'swallow.camelot.test' accepts no mail: its MX record is null (RFC 7505)\n"),
        (
            "castle",
            "The domain 'castle.camelot.test' has explicit MX records!\nTry the servers in this order:\n"
            "Priority: 10   Hostname: nowhere.camelot.test\n",
            "    ERROR: no records for nowhere.camelot.test\n"
            "ERROR: none of the servers of 'castle.camelot.test' has an address, and no other may be tried\n",
        ),
        ("ni", "", f"daemons mx: ni.camelot.test is an alias in a loop: {LOOP}\n"),
    ],
)
def test_mx_of_domains_without_mx_records(
    server: tuple[Folder, str], capsys: pytest.CaptureFixture[str], domain: str, out: str, err: str
) -> None:
    code = main(["mx", f"{domain}.camelot.test", "--server", f"127.0.0.1:{server[1]}"])
    assert (code, *capsys.readouterr()) == (1 if err else 0, out, err)


def test_mx_follows_an_alias_of_the_domain(
    resolver: resolving.Resolver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mx, "in_order", lambda records: sorted(records))
    assert mx.resolve_email_domain("knights.camelot.test", resolver) == 0
    expected = servers_of("knights.camelot.test", SPARE, BACKUP)
    assert capsys.readouterr() == (
        f"Hostname knights.camelot.test is an alias for camelot.test\n{expected}",
        "",
    )


class FixedResolver:
    """A resolver with fixed records; all other lookups fail."""

    def __init__(self, **records: list[object]) -> None:
        self._records = records

    def find(self, name: dns.name.Name, kind: str) -> resolving.Found:
        records = self._records.get(f"{name.labels[0].decode()}_{kind}")
        if records is None:
            raise resolving.LookupFailure(f"{resolving.to_text(name)} {kind}: no answer in 10 s")
        return resolving.Found(name, True, records, [], [])


def exchange(preference: int, host: str) -> SimpleNamespace:
    return SimpleNamespace(preference=preference, exchange=dns.name.from_text(host))


def test_mx_continues_after_a_failed_lookup_of_one_server(capsys: pytest.CaptureFixture[str]) -> None:
    found = FixedResolver(
        x_MX=[exchange(20, "b.x"), exchange(10, "a.x"), exchange(0, ".")],
        b_A=[SimpleNamespace(address="127.0.0.2")],
        b_AAAA=[],
    )
    assert mx.resolve_email_domain("x", found) == 0  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert out.endswith("Priority: 10   Hostname: a.x\nPriority: 20   Hostname: b.x\n    Hostname b.x = A 127.0.0.2\n")
    assert err == "    ERROR: a.x A: no answer in 10 s\n"


def test_failed_mx_lookup_does_not_fall_back_to_addresses() -> None:
    with pytest.raises(resolving.LookupFailure, match="x MX: no answer in 10 s"):
        mx.resolve_email_domain("x", FixedResolver(x_A=[SimpleNamespace(address="127.0.0.2")]))  # type: ignore[arg-type]


def test_equal_preferences_are_shuffled_and_others_sorted() -> None:
    records = [exchange(20, "c"), exchange(10, "a"), exchange(10, "b")]
    for shuffle, order in ((list.reverse, "b. a. c."), (lambda _: None, "a. b. c.")):
        assert " ".join(str(each.exchange) for each in mx.in_order(records, shuffle)) == order
    seen = {tuple(str(each.exchange) for each in mx.in_order(records)) for _ in range(200)}
    assert seen == {("a.", "b.", "c."), ("b.", "a.", "c.")}


@pytest.mark.parametrize(
    ("name", "code", "out", "err"),
    [
        (
            "www.camelot.test",
            0,
            {
                "www.camelot.test IN CNAME camelot.test.",
                "camelot.test IN A 127.0.0.1",
                "camelot.test IN AAAA ::1",
                *(
                    f"camelot.test IN MX {each}.camelot.test."
                    for each in ("10 mail", "20 backup", "20 spare", "30 post")
                ),
                "camelot.test IN NS ns.camelot.test.",
                "camelot.test IN NS ns.lake.camelot.test.",
            },
            "",
        ),
        ("bücher.camelot.test", 0, {"xn--bcher-kva.camelot.test IN A 127.0.0.32"}, ""),
        ("dangling.camelot.test", 0, {"dangling.camelot.test IN CNAME nowhere.camelot.test."}, ""),
        ("absent.camelot.test", 1, set(), "daemons dns: absent.camelot.test does not exist (NXDOMAIN)\n"),
        (
            "merlin.camelot.test",
            1,
            set(),
            "daemons dns: merlin.camelot.test has no records of the types A, AAAA, CNAME, MX, NS\n",
        ),
        ("x.example", 1, set(), "daemons dns: x.example A: 127.0.0.1:{port} answered REFUSED\n"),
        ("\x1b[31m.camelot.test", 1, set(), "daemons dns: \\027[31m.camelot.test does not exist (NXDOMAIN)\n"),
        ("a..b", 1, set(), "daemons dns: 'a..b' is not a domain name: a DNS label is empty\n"),
        ("ü" * 70, 1, set(), None),
        ("\udcff", 1, set(), None),
    ],
)
def test_dns_prints_name_class_type_and_data(
    server: tuple[Folder, str], capsys: pytest.CaptureFixture[str], name: str, code: int, out: set[str], err: str | None
) -> None:
    assert main(["dns", name, "--server", f"127.0.0.1:{server[1]}"]) == code
    output = capsys.readouterr()
    assert (set(output.out.splitlines()), output.err.count("\n")) == (out, code)
    assert err is None or output.err == err.format(port=server[1])


def test_response_too_long_for_udp_is_fetched_over_tcp(resolver: resolving.Resolver) -> None:
    found = resolver.find(dns.name.from_text("grail.camelot.test"), "TXT")
    assert len(found.records[0].to_wire()) > single_query.PAYLOAD


@pytest.mark.parametrize("silent", [True, False])
def test_unresponsive_server_is_an_error(silent: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        if not silent:
            mute.close()
        assert main(["mx", "camelot.test", "--server", f"127.0.0.1:{port}", "-t", "0.05"]) == 1
    reason = "no answer in 0.05 s" if silent else f"127.0.0.1:{port}: connection refused"
    assert capsys.readouterr() == ("", f"daemons mx: camelot.test MX: {reason}\n")


def test_ask_dns_works_over_udp_and_tcp(server: tuple[Folder, str], capfd: pytest.CaptureFixture[str]) -> None:
    folder, port = server
    folder.write("tcp", f"[daemon]\nservice = dns\nport = {port}\n")
    for name in ("dns", "tcp"):
        assert main(["ask", name, "--conf", str(folder.conf), "-", "www.camelot.test"]) == 0
        assert "\nwww.camelot.test. 3600 IN CNAME camelot.test.\n" in capfd.readouterr().out


def dig(port: str, *words: str) -> str:
    done = subprocess.run(
        ["dig", "@127.0.0.1", "-p", port, "+time=10", "+tries=1", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


@needs_dig
def test_dig_accepts_the_responses(server: tuple[Folder, str]) -> None:
    port = server[1]
    assert dig(port, "+short", "-x", "127.0.0.25") == "mail.camelot.test.\n"
    assert sorted(dig(port, "+short", "+tcp", "camelot.test", "MX").splitlines())[0] == "10 mail.camelot.test."
    assert "(TCP)" in dig(port, "grail.camelot.test", "TXT")  # the UDP response was truncated
    several = dig(port, "absent.camelot.test", "camelot.test", "example.org")
    assert [line.split(", ")[1] for line in several.splitlines() if "HEADER" in line] == [
        "status: NXDOMAIN",
        "status: NOERROR",
        "status: REFUSED",
    ]


class Scripted(resolving.Resolver):
    """A resolver with responses from a zone, one alias at a time, as from servers that do not follow aliases."""

    def __init__(self, zone: dict[str, str]) -> None:
        self._zone = zone

    def _ask(self, name: dns.name.Name, kind: str) -> dns.message.Message:
        response = dns.message.make_response(dns.message.make_query(name, kind))
        if record := self._zone.get(str(name)):
            response.answer.append(dns.rrset.from_text(name, 1, "IN", *record.split(" ", 1)))
        return response


def test_chain_of_single_aliases_is_followed_up_to_eight() -> None:
    aliases = {f"a{number}.": f"CNAME a{number + 1}." for number in range(8)}
    first = dns.name.from_text("a0.")
    found = Scripted({**aliases, "a8.": "A 127.0.0.8"}).find(first, "A")
    assert (str(found.name), [each.address for each in found.records], len(found.aliases)) == ("a8.", ["127.0.0.8"], 8)
    assert Scripted(aliases).find(first, "A")._replace(answer=[]) == found._replace(answer=[], records=[])
    with pytest.raises(resolving.LookupFailure, match=r"a0 has more than 8 aliases: a0, a1, .*, a8$"):
        Scripted({**aliases, "a8.": "CNAME a9."}).find(first, "A")
    with pytest.raises(resolving.LookupFailure, match=r"a0 is an alias in a loop: a0, a0$"):
        Scripted({"a0.": "CNAME a0."}).find(first, "A")


def test_records_of_other_classes_are_ignored(
    resolver: resolving.Resolver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In dnspython their rdata lack the attributes of those of class IN."""

    def query(name: dns.name.Name, kind: str, *_: object) -> dns.message.Message:
        response = dns.message.make_response(dns.message.make_query(name, kind))
        data = {"A": "a. 1", "MX": r"\# 3 000100", "CNAME": r"\# 1 00"}.get(kind)
        if data is not None:
            response.answer = [dns.rrset.from_text(name, 60, "CH" if kind == "A" else "CLASS300", kind, data)]
        return response

    monkeypatch.setattr(single_query, "query", query)
    assert mx.resolve_email_domain("shrubbery.camelot.test", resolver) == 1
    assert capsys.readouterr() == (DRAT, "    ERROR: no records for shrubbery.camelot.test\n")
