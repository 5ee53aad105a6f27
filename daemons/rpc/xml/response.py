"""XML-RPC responses (xmlrpc.com/spec, "Response example" and "Fault example"), read as strictly as calls."""

from __future__ import annotations

from typing import Any
from xmlrpc.client import Fault

from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.reader import UNSET, Builder


class ResponseBuilder(Builder):
    """Builder of a result or fault from expat's events."""

    within = Builder.within | {
        "": frozenset({"methodResponse"}),
        "methodResponse": frozenset({"params", "fault"}),
        "fault": frozenset({"value"}),
    }
    #: Above the limit for calls: a client reads one response at a time, a server many calls.
    values = 1_000_000

    def __init__(self) -> None:
        super().__init__(builtin=True)
        self._name = ""  # responses have no name, so <params> may come at once
        self._is_fault = False

    def read(self, data: bytes) -> Any:
        """Return the result.  Raises `Fault` for a fault, and `UnreadableError` for any other document."""
        self._parse(data)
        if not self._parameters or len(self._parameters) != 1:
            raise UnreadableError("expected one <param> in a response")
        (result,) = self._parameters
        if not self._is_fault:
            return result
        match result:
            case {"faultCode": int(code), "faultString": str(text)} if type(code) is int:
                raise Fault(code, text)
        raise UnreadableError("a <fault> without faultCode and faultString")

    def _start(self, tag: str, attributes: object) -> None:
        super()._start(tag, attributes)
        if tag == "fault":
            if self._parameters is not None:
                raise UnreadableError("expected one <params> or one <fault>")
            self._is_fault = True
            self._parameters = [UNSET]  # placeholder for the one value, as in a <param>
