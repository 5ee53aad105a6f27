"""Third-party JSON-RPC clients: curl, Node, jsonrpclib."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import jsonrpclib
import pytest

from daemons import jsonrpc
from daemons.rpc.json.service import JSONRPC
from daemons.serving.pump import Pump
from tests.rpc import spec
from tests.serving.conftest import within  # noqa: F401
from tests.serving.peers import converse
from tests.serving.running import Within

#: A function of JavaScript for each of the examples, which are on standard input; prints the responses.
NODE = """
const examples = JSON.parse(require("fs").readFileSync(0, "utf8"));
(async () => {
  const answers = [];
  for (const body of examples) {
    const headers = { "Content-Type": "application/json" };
    const response = await fetch(process.argv[1], { method: "POST", headers, body });
    const text = await response.text();
    answers.push([response.status, text ? JSON.parse(text) : ""]);
  }
  console.log(JSON.stringify(answers));
})();
"""

Start = Callable[..., Within]


def serve(within: Start, origin: Any, engine: str = "loop", **options: Any) -> Within:  # noqa: F811
    """Run a daemon that publishes `origin`, in this process."""
    kind = JSONRPC.of(origin, "x")
    return within(engine, Pump.for_service(kind(kind.Options(**options))))


def url(running: Within) -> str:
    return f"http://127.0.0.1:{running.address[1]}/"


def run(program: str, *arguments: str, said: str = "") -> str:
    """Return the output of a program."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: make engines")
    done = subprocess.run([program, *arguments], input=said, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_jsonrpclib_asks_as_the_book_does(within: Start) -> None:  # noqa: F811
    running = serve(within, jsonrpc)
    proxy = jsonrpclib.ServerProxy(url(running))
    answer = proxy.lengths((1, 2, 3), 27, {"Sirius": -1.46, "Rigel": 0.12})
    assert answer == [[3, [1, 2, 3]], [None, 27], [2, {"Sirius": -1.46, "Rigel": 0.12}]]
    with pytest.raises(jsonrpclib.ProtocolError) as raised:
        proxy.length()
    assert raised.value.args[0][0] == -32601
    batch = jsonrpclib.MultiCall(proxy)
    batch.lengths("a")
    batch._notify.lengths("b")
    batch.lengths(5)
    assert list(batch()) == [[[1, "a"]], [[None, 5]]]
    proxy("close")()


def test_curl_sends_the_examples_of_the_specification(within: Start) -> None:  # noqa: F811
    running = serve(within, spec)
    examples = spec.examples()
    # All over one connection, each with its status behind it.
    arguments = ["-s"]
    for sent, _ in examples:
        arguments += ["-d", sent, "-w", "\\n%{http_code}\\n", url(running), "--next", "-s"]
    lines = run("curl", *arguments[:-2]).splitlines()
    answers = [(int(lines[at + 1]), json.loads(lines[at] or '""')) for at in range(0, len(lines), 2)]
    assert answers == [(200 if answer else 204, answer) for _, answer in examples]
    running.log_line("127.0.0.1 - - [", '] "POST / HTTP/1.1" 200 36 "-" "curl/')
    running.log_line('] "POST / HTTP/1.1" 204 0 "-" "curl/')


def test_node_sends_the_examples_of_the_specification(within: Start) -> None:  # noqa: F811
    running = serve(within, spec, "threads")
    examples = spec.examples()
    said = json.dumps([sent for sent, _ in examples])
    answers = json.loads(run("node", "-e", NODE, url(running), said=said))
    assert answers == [[200 if answer else 204, answer] for _, answer in examples]


def test_a_person_writes_lines(within: Start) -> None:  # noqa: F811
    running = serve(within, jsonrpc, "pool", framing="lines")
    heard, _ = converse(running.address, b'{"jsonrpc":"2.0","method":"lengths","params":["abc"],"id":1}\nhello\n')
    assert [json.loads(line).get("result") for line in heard.splitlines()] == [[[3, "abc"]], None]
