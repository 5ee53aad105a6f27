"""Third-party XML-RPC clients."""

from __future__ import annotations

import shutil
import subprocess
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from daemons.accounts import Accounts
from daemons.clients.rpc.rpc import Endpoint
from daemons.clients.rpc.xml_rpc import XMLCaller
from tests.accounts.files import write_secret
from tests.rpc.knights import running


@pytest.fixture
def url() -> Iterator[str]:
    with running() as there:
        yield f"http://127.0.0.1:{there.address[1]}/"


VALUES = [{"a": [1, 2.5, "ÿ€", None, True]}, b"\0\xff", datetime(2026, 2, 28, 1, 2, 3), -(2**31), "", [], {}]


def test_the_standard_librarys_client(url: str) -> None:
    with xmlrpc.client.ServerProxy(url, allow_none=True, use_builtin_types=True) as there:
        assert there.same(VALUES) == VALUES
        with pytest.raises(xmlrpc.client.Fault) as caught:
            there.say("math domain error")
        assert str(caught.value) == "<Fault 1: \"<class 'ValueError'>:math domain error\">"
        calls = xmlrpc.client.MultiCall(there)
        calls.same(7)
        calls.say("no")
        calls.same("last")
        answers = calls()
        assert (answers[0], answers[2]) == (7, "last")
        with pytest.raises(xmlrpc.client.Fault):
            answers[1]


@pytest.mark.parametrize("engine", ["one", "threads", "forks", "pool"])
def test_every_engine_answers(engine: str) -> None:
    with running(engine) as there, xmlrpc.client.ServerProxy(f"http://127.0.0.1:{there.address[1]}/") as proxy:
        calls = xmlrpc.client.MultiCall(proxy)
        calls.same([1, "two"])
        calls.say("no")
        answers = calls()
        assert answers[0] == [1, "two"]
        with pytest.raises(xmlrpc.client.Fault, match="<class 'ValueError'>:no"):
            answers[1]
        assert [proxy.same(n) for n in range(3)] == [0, 1, 2]


def test_credentials_in_the_url_are_accepted(tmp_path: Path) -> None:
    secret = write_secret(tmp_path / "users")
    with running(users=Accounts(str(tmp_path / "users"))) as there:
        where = f"127.0.0.1:{there.address[1]}/RPC2"
        with xmlrpc.client.ServerProxy(f"http://robin:{secret}@{where}") as known:
            assert known.same(1) == 1
        with (
            xmlrpc.client.ServerProxy(f"http://{where}") as unknown,
            pytest.raises(xmlrpc.client.ProtocolError) as caught,
        ):
            unknown.same(1)
        assert caught.value.errcode == 401
        assert XMLCaller(Endpoint.of(f"http://robin:{secret}@{where}")).call("same", [1]) == 1


PERL = """
use strict; use RPC::XML; use RPC::XML::Client;
$RPC::XML::ENCODING = "utf-8";
my $there = RPC::XML::Client->new($ARGV[0]);
print $there->simple_request("same", "a<b>\\x{ff}") eq "a<b>\\x{ff}" ? "same\\n" : "other\\n";
print $there->send_request("same", {a => [1, 2.5]})->value->{a}->[1], "\\n";
my $fault = $there->send_request("say", "no");
print $fault->is_fault, " ", $fault->code, " ", $fault->string, "\\n";
my @calls = ({methodName => "same", params => [7]}, {methodName => "x", params => []});
my $both = $there->send_request("system.multicall", \\@calls);
print $both->value->[0]->[0], " ", $both->value->[1]->{faultCode}, "\\n";
"""


def test_curl_and_perl(url: str) -> None:
    if curl := shutil.which("curl"):
        three = "<params><param><value><int>3</int></value></param></params>"
        body = f"<methodCall><methodName>same</methodName>{three}</methodCall>"
        heard = subprocess.run(
            [curl, "-sS", "--max-time", "20", "-d", body, url], capture_output=True, check=True
        ).stdout
        assert xmlrpc.client.loads(heard) == ((3,), None)
    if (
        not (perl := shutil.which("perl"))
        or subprocess.run([perl, "-MRPC::XML::Client", "-e", "1"], capture_output=True, check=False).returncode
    ):
        pytest.skip("RPC::XML is missing; make engines installs librpc-xml-perl")
    done = subprocess.run([perl, "-e", PERL, url], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("same\n2.5\n1 1 <class 'ValueError'>:no\n7 1\n", "")
