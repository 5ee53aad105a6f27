"""XML-RPC responses (xmlrpc.com/spec, "Response example" and "Fault example"), read as strictly as calls."""

from __future__ import annotations

from typing import Any
from xmlrpc.client import Fault

from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.reader import UNSET, Builder


class ResponseBuilder(Builder):
    """Build the result, or the fault, of the elements and the text that expat finds."""

    within = Builder.within | {
        "": frozenset({"methodResponse"}),
        "methodResponse": frozenset({"params", "fault"}),
        "fault": frozenset({"value"}),
    }
    #: A client waits for one response, and a server for many calls; so this is more than a call may have.
    values = 1_000_000

    def __init__(self) -> None:
        super().__init__(builtin=True)
        self._name = ""  # a response has none, and <params> comes behind it
        self._is_fault = False

    def read(self, data: bytes) -> Any:
        """Return the result.  Raises `Fault`, and `UnreadableError` for other documents."""
        self._parse(data)
        if not self._parameters or len(self._parameters) != 1:
            raise UnreadableError("one <param> is expected in a response")
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
                raise UnreadableError("one <params> or one <fault> is expected")
            self._is_fault = True
            self._parameters = [UNSET]  # for its one value, as in a <param>
