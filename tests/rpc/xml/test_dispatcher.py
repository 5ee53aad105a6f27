"""Dispatch of XML calls to methods: results, faults, and overridden methods."""

from __future__ import annotations

import logging
import re
import xmlrpc.client
from collections.abc import Callable
from typing import Any

import pytest

from daemons.rpc.methods import LONGEST_RESULTS, Method
from daemons.rpc.xml.dispatcher import Dispatcher
from tests.rpc.calling import loaded


class Grail:
    """Published as an instance."""

    title = "Sir"

    def find(self, where: str = "here") -> str:
        """Finds it."""
        return f"not {where}"

    def _secret(self) -> str:
        return "secret"


def say(text: str) -> str:
    raise ValueError(text)


def fail(kind: str) -> None:
    error: type[BaseException] = {"os": OSError, "exit": SystemExit, "mine": type("MineError", (ValueError,), {})}[kind]
    raise error("a secret of the method")


def fail_oddly() -> None:
    raise ValueError(Unshown())


class Unshown:
    def __str__(self) -> str:
        raise RuntimeError("a secret of this")


def number(fault: int) -> None:
    raise xmlrpc.client.Fault(fault, "no")


def made() -> Dispatcher:
    dispatcher = Dispatcher(allow_none=True, use_builtin_types=True)
    dispatcher.register_introspection_functions()
    dispatcher.register_multicall_functions()
    dispatcher.publish([Method.of(say), Method.of(fail), Method.of(number), Method.of(pow)])
    dispatcher.register_function(lambda *things: things[0] if things else None, "echo")
    dispatcher.register_instance(Grail())
    return dispatcher


def ask(dispatcher: Any, method: str, *parameters: Any) -> Any:
    return loaded(dispatcher._marshaled_dispatch(xmlrpc.client.dumps(parameters, method, allow_none=True).encode()))


def fault_of(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        call()
    return caught.value.faultCode, caught.value.faultString


@pytest.mark.parametrize(
    ("method", "parameters", "fault"),
    [
        ("say", ("no",), (1, "<class 'ValueError'>:no")),
        ("say", ("x" * 5000,), (1, f"<class 'ValueError'>:{'x' * 979}")),
        ("number", (77,), (77, "no")),
        ("pow", (1,), (1, "<class 'TypeError'>:pow() missing required argument 'exp' (pos 2)")),
        ("pow", (0, -1), (1, "<class 'ZeroDivisionError'>:0.0 cannot be raised to a negative power")),
        ("pow", (2, 31), (1, "<class 'OverflowError'>:int exceeds XML-RPC limits, which are those of 32 bits")),
        ("no", (), (1, "<class 'Exception'>:method \"no\" is not supported")),
        ("find.__func__", (), (1, "<class 'Exception'>:method \"find.__func__\" is not supported")),
        ("_secret", (), (1, "<class 'Exception'>:method \"_secret\" is not supported")),
        ("title", (), (1, "<class 'Exception'>:method \"title\" is not supported")),
        ("__class__", (), (1, "<class 'Exception'>:method \"__class__\" is not supported")),
        ("system.multicall", ({},), (-32600, "system.multicall expects an array of calls")),
        ("system.multicall", ([{}] * 1001,), (-32600, "1001 calls; at most 1000 are allowed in a multicall")),
    ],
)
def test_faults(method: str, parameters: tuple[Any, ...], fault: tuple[int, str]) -> None:
    assert fault_of(lambda: ask(made(), method, *parameters)) == fault


def test_tracebacks_are_bounded_and_every_fault_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    server = made()
    texts = [fault_of(lambda: ask(server, "fail", "os"))[1] for _ in range(200)]
    ids = [text.partition("fault ")[2][:8] for text in texts]
    assert [record.getMessage().partition("fault ")[2][:8] for record in caplog.records] == ids
    assert [bool(record.exc_info) for record in caplog.records[:30]] == [True] * 30
    assert sum(bool(record.exc_info) for record in caplog.records) < 100
    last = [record.getMessage() for record in caplog.records if not record.exc_info][-1]
    assert re.fullmatch(rf"fail failed: fault \w{{8}}: \w+ at {re.escape(__file__)}:\d+", last)


@pytest.mark.parametrize("kind", ["os", "exit", "mine"])
def test_unexpected_exception_is_an_id_for_the_caller_and_a_traceback_in_the_log(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    code, text = fault_of(lambda: ask(made(), "fail", kind))
    match = re.fullmatch(r"fail failed: see fault ([0-9a-f]{8}) in the daemon's log", text)
    assert match, text
    assert code == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == f"fail failed: fault {match[1]}"
    assert record.exc_info
    assert "a secret of the method" in str(record.exc_info[1])


def test_exception_without_a_text_is_a_bug() -> None:
    dispatcher = Dispatcher()
    dispatcher.publish([Method.of(fail_oddly)])
    assert fault_of(lambda: ask(dispatcher, "fail_oddly"))[1].startswith("fail_oddly failed: see fault ")


def test_malformed_call_is_a_fault() -> None:
    code, text = fault_of(lambda: loaded(made()._marshaled_dispatch(b"add 3 5")))
    assert (code, text[:8]) == (-32700, "not XML:")


def test_one_call_that_fails_does_not_spoil_the_others() -> None:
    calls: list[Any] = [
        {"methodName": "pow", "params": [2, 3]},
        {"methodName": "say", "params": ["no"]},
        {"methodName": "pow", "params": [2, 31]},
        {"methodName": "system.multicall", "params": [[]]},
        {"methodName": "no", "params": []},
        {"methodName": "pow", "params": 3},
        {"methodName": 3, "params": []},
        "pow",
        {"methodName": "echo", "params": [None]},
    ]
    answers = ask(made(), "system.multicall", calls)
    assert answers[0] == [8]
    assert answers[-1] == [None]
    shape = "expected a struct with methodName and params, an array"
    assert [(each["faultCode"], each["faultString"]) for each in answers[1:-1]] == [
        (1, "<class 'ValueError'>:no"),
        (1, "<class 'OverflowError'>:int exceeds XML-RPC limits, which are those of 32 bits"),
        (-32600, "system.multicall within system.multicall"),
        (1, "<class 'Exception'>:method \"no\" is not supported"),
        *[(-32600, shape)] * 3,
    ]


def test_long_results_of_a_multicall_stop_further_calls() -> None:
    made: list[int] = []

    def long() -> str:
        made.append(1)
        return "x" * 2**20

    dispatcher = Dispatcher()
    dispatcher.register_multicall_functions()
    dispatcher.register_function(long, "long")
    answers = dispatcher.system_multicall([{"methodName": "long", "params": []}] * 1000)
    assert len(made) == LONGEST_RESULTS // 2**20
    assert answers[: len(made)] == [["x" * 2**20]] * len(made)
    expected = {
        "faultCode": -32600,
        "faultString": f"not called: the results of this multicall exceed {LONGEST_RESULTS} characters",
    }
    assert answers[len(made) :] == [expected] * (1000 - len(made))


def test_a_call_of_many_names_is_answered_without_the_standard_librarys_none() -> None:
    dispatcher = Dispatcher()
    dispatcher.register_function(lambda: None, "nothing")
    assert fault_of(lambda: ask(dispatcher, "nothing")) == (
        1,
        "<class 'TypeError'>:cannot marshal None unless allow_none is enabled",
    )


def listed(a: int, b: float = 1.0, *, c: int = 0) -> list[int]:
    return []


def way(a: int | float, b: dict[str, int], c: bytes = b"") -> None: ...


def test_introspection() -> None:
    dispatcher = made()
    dispatcher.publish([Method.of(listed), Method.of(way)])
    assert ask(dispatcher, "system.listMethods") == sorted(
        ["echo", "fail", "find", "listed", "number", "pow", "say", "way"]
        + [f"system.{name}" for name in ("listMethods", "methodHelp", "methodSignature", "multicall")]
    )
    assert ask(dispatcher, "system.methodHelp", "find") == "Finds it."
    assert ask(dispatcher, "system.methodHelp", "say") == ask(dispatcher, "system.methodHelp", "no") == ""
    assert ask(dispatcher, "system.methodSignature", "find") == [["string"], ["string", "string"]]
    assert ask(dispatcher, "system.methodSignature", "way") == [
        ["nil", "double", "struct"],
        ["nil", "double", "struct", "base64"],
    ]
    assert ask(dispatcher, "system.methodSignature", "fail") == [["nil", "string"]]
    assert ask(dispatcher, "system.methodSignature", "listed") == [["array", "int"], ["array", "int", "double"]]
    for name in ("echo", "pow", "no"):
        assert ask(dispatcher, "system.methodSignature", name) == "signatures not supported"


def test_where_authors_put_their_own() -> None:
    class Mine(Dispatcher):
        def _dispatch(self, method: str, params: Any) -> Any:
            return [method, *params] if method != "pow" else super()._dispatch(method, params)

    dispatcher = Mine()
    dispatcher.publish([Method.of(pow)])
    assert ask(dispatcher, "anything", 1) == ["anything", 1]
    assert ask(dispatcher, "pow", 2, 3) == 8
    body = xmlrpc.client.dumps((1,), "x").encode()
    assert loaded(dispatcher._marshaled_dispatch(body, lambda method, params: f"{method}{params}")) == "x(1,)"


def test_an_instance_that_dispatches_itself() -> None:
    class Own:
        def _dispatch(self, method: str, params: Any) -> str:
            return f"{method}{params}"

        def _listMethods(self) -> list[str]:
            return ["b", "a"]

        def _methodHelp(self, name: str) -> str:
            return f"of {name}"

    dispatcher = Dispatcher()
    dispatcher.register_introspection_functions()
    dispatcher.register_instance(Own())
    assert ask(dispatcher, "a.b", 1) == "a.b(1,)"
    assert ask(dispatcher, "system.listMethods")[:2] == ["a", "b"]
    assert ask(dispatcher, "system.methodHelp", "a") == "of a"


def test_dotted_names_are_refused_where_they_are_asked_for() -> None:
    with pytest.raises(ValueError, match="allow_dotted_names lets callers traverse attributes"):
        Dispatcher().register_instance(Grail(), allow_dotted_names=True)
