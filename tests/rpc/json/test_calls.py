"""JSON-RPC 2.0 without a network: the specification's examples, and malformed calls."""

from __future__ import annotations

import gc
import json
import logging
import re
from contextlib import suppress
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons import jsonrpc, rpcmath
from daemons.rpc.json import codec
from daemons.rpc.json.calls import Calls
from daemons.rpc.methods import LONGEST_RESULTS, Methods
from tests.rpc import spec


class Unshowable:
    """It has no text."""

    def __repr__(self) -> str:
        raise LookupError("no text")


class Various:
    """Methods of many shapes, and some that fail."""

    def typed(self, number: int, share: float = 0.5, *names: str) -> list[Any]:
        """Three kinds of parameters."""
        return [number, share, *names]

    def named(self, place: int, /, *, name: str, **others: Any) -> str:
        """By name alone."""
        return f"{place}{name}{others}"

    def optional(self, text: str | None = None, which: Literal["a", "b"] = "a") -> bool:
        """Take optional parameters."""
        return text is None

    def says_no(self, of: float) -> float:
        """Divides."""
        return 1 / of

    def odd(self) -> None:
        """Says no, in a way that cannot be shown."""
        raise ValueError(Unshowable())

    def halves(self) -> None:
        """Says no, with half of a character."""
        raise ValueError("\ud800")

    def fails(self) -> None:
        """Has a bug."""
        raise LookupError("a secret of the method")

    def leaves(self) -> None:
        """Has another."""
        raise SystemExit(3)

    def unfit(self, what: str) -> Any:
        """Returns what JSON has not."""
        return {"half": "\ud800", "set": {1}, "nan": float("nan"), "huge": 10**5000, "keys": {(1, 2): 3}}[what]


CALLS = Calls(Methods.of(Various()))
LENGTHS = Calls(Methods.of(jsonrpc))


def ask(calls: Calls, text: str | bytes) -> Any:
    """Return the decoded response, or "" for none."""
    answer = calls.answer(text if isinstance(text, bytes) else text.encode())
    return "" if answer is None else json.loads(answer)


def call(method: str, params: Any = (), calls: Calls = CALLS) -> Any:
    """Return the result of a call, or the code and data of its error."""
    answer = ask(calls, json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": "x"}))
    assert answer["id"] == "x"
    return answer["result"] if "result" in answer else (answer["error"]["code"], answer["error"].get("data"))


@pytest.mark.parametrize(("sent", "answered"), spec.examples())
def test_the_examples_of_the_specification(sent: str, answered: Any) -> None:
    assert ask(Calls(Methods.of(spec)), sent) == answered


def test_lengths_as_the_book_asks() -> None:
    params = [(1, 2, 3), 27, {"Sirius": -1.46, "Rigel": 0.12}]
    expected = [[3, [1, 2, 3]], [None, 27], [2, {"Sirius": -1.46, "Rigel": 0.12}]]
    assert call("lengths", params, LENGTHS) == expected


def test_a_map_with_numbers_for_names_goes_and_comes_back_as_records() -> None:
    # As JSON it would have texts for names; and XML-RPC has no such map at all.
    assert json.loads(json.dumps({1: "H"})) == {"1": "H"}
    records = call("elements", [], Calls(Methods.of(rpcmath)))
    assert {record["number"]: record["symbol"] for record in records} == rpcmath.SYMBOLS


@pytest.mark.parametrize(
    "params",
    [
        "[1e999]",
        "[NaN]",
        "[-Infinity]",
        "[" + "9" * 5000 + "]",
        r'["\ud800"]',
        r'["\uDC00\uD800"]',
        '{"a":1,"a":2}',
        "[" * 100 + "]" * 100,
        "[" * 100_000,
        '[{"x":' * 60 + "1" + "}]" * 60,
        "[1,]",
        "['x']",
        "[01]",
        '["a\nb"]',
        "[1] 2",
    ],
)
def test_ambiguous_json_is_a_parse_error(params: str) -> None:
    answer = ask(LENGTHS, f'{{"jsonrpc":"2.0","method":"lengths","params":{params},"id":1}}')
    assert answer == {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": None}


@pytest.mark.parametrize("text", [b"", b"\xef\xbb\xbf{}", b'["\xff"]', b'["\xed\xa0\x80"]', b"{" * 99, b"\0"])
def test_octets_that_are_no_json_are_a_parse_error(text: bytes) -> None:
    assert ask(LENGTHS, text)["error"]["code"] == -32700


@pytest.mark.parametrize(
    "params",
    [
        "[" * 98 + "]" * 98,
        '["' + "[" * 500 + r"\"" + "{" * 500 + '"]',
        r'["\ud83d\ude00", "\u0000"]',
        "[" + "9" * 4000 + "]",
        "[" + "[],{}," * 200 + "0]",
    ],
)
def test_json_values_round_trip(params: str) -> None:
    answer = ask(LENGTHS, f'{{"jsonrpc":"2.0","method":"lengths","params":{params},"id":1}}')
    assert [value for _, value in answer["result"]] == json.loads(params)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"jsonrpc": "2.0"},
        {"jsonrpc": "1.0", "method": "fails"},
        {"jsonrpc": 2.0, "method": "fails"},
        5,
        None,
        "x",
        True,
        {"method": "fails"},
        {"jsonrpc": "2.0", "method": None},
        {"jsonrpc": "2.0", "method": "fails", "params": 5},
        {"jsonrpc": "2.0", "method": "fails", "params": None},
        {"jsonrpc": "2.0", "method": "fails", "id": []},
        {"jsonrpc": "2.0", "method": "fails", "id": True},
    ],
)
def test_json_that_is_not_a_call_is_an_invalid_request(request_: Any) -> None:
    expected = {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None}
    assert ask(CALLS, json.dumps(request_)) == expected


@pytest.mark.parametrize("number", [0, -1, 2**70, 1.5, "", "\x00é", None])
def test_an_id_comes_back_as_it_was(number: Any) -> None:
    answer = ask(CALLS, json.dumps({"jsonrpc": "2.0", "method": "optional", "id": number}))
    assert answer == {"jsonrpc": "2.0", "result": True, "id": number}


@pytest.mark.parametrize(
    ("method", "params", "answer"),
    [
        ("typed", [1], [1, 0.5]),
        ("typed", [1, 2, "a", "b"], [1, 2, "a", "b"]),
        ("typed", {"share": 1, "number": 2}, [2, 1]),
        ("typed", [], (-32602, "0 given, 1 or more expected")),
        ("typed", [1.0], (-32602, "number: integer is expected")),
        ("typed", [True], (-32602, "number: integer is expected")),
        ("typed", [1, "x"], (-32602, "share: number is expected")),
        ("typed", [1, 2, "a", 3], (-32602, "names: string is expected")),
        ("typed", {"number": "1"}, (-32602, "number: integer is expected")),
        ("typed", {"share": 1}, (-32602, "missing number")),
        ("typed", {"number": 1, "self": 2}, (-32602, "unknown parameter name")),
        ("named", [1, "x"], (-32602, "expected parameters by name")),
        ("optional", ["x"], False),
        ("optional", [None], True),
        ("optional", [5], (-32602, "text: string or null is expected")),
        ("optional", [None, "a", 3], (-32602, "3 given, 0 to 2 expected")),
        ("says_no", [0], (1, {"exception": "ZeroDivisionError"})),
        ("__init__", [], (-32601, None)),
        ("typed.__func__", [], (-32601, None)),
    ],
)
def test_parameters(method: str, params: Any, answer: Any) -> None:
    assert call(method, params) == answer


@pytest.mark.parametrize(
    ("method", "params", "why"),
    [
        ("fails", [], "a secret of the method"),
        ("leaves", [], "SystemExit"),
        ("unfit", ["set"], "not JSON serializable"),
        ("unfit", ["half"], "surrogates not allowed"),
        ("odd", [], "Unshowable"),
        ("unfit", ["nan"], "not JSON compliant"),
        ("unfit", ["huge"], "digits"),
        ("unfit", ["keys"], "keys must be"),
    ],
)
def test_a_bug_is_an_id_to_the_peer_and_a_traceback_in_the_log(
    method: str, params: list[Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        code, data = call(method, params)
    assert code == -32603
    assert re.fullmatch(r"\w{8}", data["fault"])
    assert data["fault"] in caplog.text
    assert why in caplog.text


def test_error_text_with_an_unpaired_surrogate_is_sent_escaped() -> None:
    assert ask(CALLS, '{"jsonrpc":"2.0","method":"halves","id":1}')["error"]["message"] == "\\ud800"


def test_a_batch_is_bounded_and_each_call_in_it_stands_for_itself() -> None:
    calls = Calls(Methods.of(Various()), batch=3)
    one = '{"jsonrpc":"2.0","method":"says_no","params":[%s],"id":%s}'
    answers = ask(calls, f"[{one % (0, 1)},{one % (2, 2)},{one % (0, 3)}]")
    assert [answer.get("result") for answer in answers] == [None, 0.5, None]
    refused = ask(calls, f"[{','.join([one % (2, 1)] * 4)}]")
    assert refused["error"] == {
        "code": -32600,
        "message": "Invalid Request",
        "data": "4 requests; at most 3 are allowed in a batch",
    }


def test_long_results_of_a_batch_stop_further_calls_but_no_notifications() -> None:
    made: list[int] = []

    class Long:
        def long(self) -> str:
            made.append(1)
            return "x" * 2**20

    one = '{"jsonrpc":"2.0","method":"long","id":7}'
    notification = '{"jsonrpc":"2.0","method":"long"}'
    answers = ask(Calls(Methods.of(Long())), f"[{','.join([one] * 999)},{notification}]")
    called = LONGEST_RESULTS // 2**20
    assert len(made) == called + 1
    assert [each["result"] for each in answers[:called]] == ["x" * 2**20] * called
    text = f"not called: the results of this batch exceed {LONGEST_RESULTS} characters"
    failure = {"code": -32000, "message": "Server error", "data": text}
    assert answers[called:] == [{"jsonrpc": "2.0", "error": failure, "id": 7}] * (999 - called)


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\ue0128.-tnrlsfaN ', max_size=60).map(str.encode))
def test_any_text_gets_a_response(text: bytes) -> None:
    answer = LENGTHS.answer(text)
    assert answer is None or "error" in answer


@given(st.text(alphabet='[]{}"\\a', max_size=40))
def test_brackets_are_counted_as_they_are_read(text: str) -> None:
    deep = "[" * 5 + json.dumps(text) + "]" * 5
    assert codec.read(deep.encode(), 5) == json.loads(deep)
    with pytest.raises(ValueError, match="more than 4"):
        codec.read(deep.encode(), 4)


def test_collector_is_paused_while_many_containers_are_parsed() -> None:
    """A collection may run every 700 containers, and examines all objects of the process."""
    text = b"[%b]" % b",".join([b"[[]]"] * 50_000)
    collections: list[str] = []

    def note(phase: str, _: object) -> None:
        collections.append(phase)

    gc.callbacks.append(note)
    try:
        codec.read(text)
    finally:
        gc.callbacks.remove(note)
    # One may be due before the pause, and one after it; each has a start and a stop.
    assert len(collections) <= 4


@pytest.mark.parametrize("text", [b"[%b]" % b",".join([b"[]"] * 200), b"[%b" % b",".join([b"[]"] * 200)])
@pytest.mark.parametrize("was_enabled", [True, False])
def test_collector_is_left_as_it_was(text: bytes, was_enabled: bool) -> None:
    if not was_enabled:
        gc.disable()
    try:
        with suppress(ValueError):
            codec.read(text)
        assert gc.isenabled() == was_enabled
    finally:
        gc.enable()
