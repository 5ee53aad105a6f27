"""Arguments are checked against annotations before the call."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Sequence
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest

import daemons.adder
import daemons.calc
from daemons import idempotent
from daemons.rpc.methods import Method
from daemons.rpc.xml.parameter_types import checked
from tests.rpc.calling import call, visit

#: In each of these a value takes the place of a number, and Python's operators take it.
REPEATED = [
    (daemons.calc, "multiply", ("ab", 2**31 - 1)),
    (daemons.calc, "multiply", (2**31 - 1, "ab")),
    (daemons.calc, "multiply", ([1], 2**31 - 1)),
    (daemons.calc, "multiply", (b"ab", 2**31 - 1)),
    (daemons.calc, "add", ("a", "b")),
    (daemons.calc, "add", (True, 1)),
    (daemons.adder, "add", ([1], [2])),
]


@pytest.mark.parametrize(("module", "method", "values"), REPEATED)
def test_value_of_another_type_never_reaches_a_shipped_method(
    module: ModuleType, method: str, values: tuple[Any, ...]
) -> None:
    with visit(module) as there:
        with pytest.raises(xmlrpc.client.Fault, match=r"<class 'TypeError'>:[xy]: (integer|number) is expected"):
            call(there, method, *values)
        (result,) = call(there, "system.multicall", [{"methodName": method, "params": list(values)}])
        assert result["faultString"].endswith("is expected")


class Typed:
    """Methods with annotations of all kinds."""

    @idempotent
    def take(self, number: int, share: float = 0.5, *names: str) -> Any:
        """Takes them."""
        return number, share, names

    def free(self, value: Any, date: datetime, rows: Sequence[int] = (), text: str | None = None) -> Any:
        return value, date, rows, text

    def bare(self, value):  # type: ignore[no-untyped-def]
        return value


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("take", (1,), ""),
        ("take", (1, 2, "a", "b"), ""),
        ("take", (1.5,), "number: integer is expected"),
        ("take", (1, "2"), "share: number is expected"),
        ("take", (1, 2, "a", 3), "names: string is expected"),
        ("free", (object(), datetime(2020, 1, 1), [1], None), ""),
        ("free", ([], datetime(2020, 1, 1), [], "a"), ""),
        ("free", ([], datetime(2020, 1, 1), "rows"), "rows: array is expected"),
        ("free", ([], datetime(2020, 1, 1), [], 1), "text: string or null is expected"),
        ("bare", ("a",), ""),
    ],
)
def test_types_are_checked_as_far_as_they_are_annotated(name: str, values: tuple[Any, ...], complaint: str) -> None:
    function = checked(Method.of(getattr(Typed(), name)))
    if complaint:
        with pytest.raises(TypeError, match=complaint):
            function(*values)
    else:
        assert function(*values)


def test_number_of_values_is_left_to_python_and_the_method_is_described_as_before() -> None:
    method = Method.of(Typed().take)
    function = checked(method)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'number'"):
        function()
    assert Method.of(function, "take") == Method("take", function, method.help, method.signature, idempotent=True)
    bare = Method.of(Typed().bare)
    assert checked(bare) is bare.function
