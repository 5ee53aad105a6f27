"""`xmlrpc.server.SimpleXMLRPCDispatcher`, hardened and made fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCDispatcher

from daemons.rpc.faults import told
from daemons.rpc.methods import Method, Methods
from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.introspection import NO_SIGNATURES, signatures_of
from daemons.rpc.xml.parameter_types import checked
from daemons.rpc.xml.reader import Reader
from daemons.rpc.xml.writer import Writer

#: Codes of faults: xmlrpc-epi.sourceforge.net/specs/rfc.fault_codes.php.  What a method says has 1, as Python's own
#: server has it for everything.
SAID = 1
NOT_WELL_FORMED = -32700
NOT_TO_BE_DONE = -32600

#: Calls in one system.multicall.
CALLS = 1000


class Dispatcher(SimpleXMLRPCDispatcher):
    """From a call as XML to a method, and from its result to XML; to be used as the stock class is, whose
    `register_function`, `register_instance`, `_dispatch` and `_marshaled_dispatch` may be overridden.

    Other than there: what came is read strictly, and without a DTD; a name is looked up in dictionaries alone; what a
    caller is told of an exception is what `daemons.rpc.faults.told` says; and each call of a multicall has its own
    result or fault, also where its result cannot be sent."""

    #: The most calls of a multicall.
    max_calls = CALLS

    def __init__(self, allow_none: bool = False, encoding: str | None = None, use_builtin_types: bool = False) -> None:
        SimpleXMLRPCDispatcher.__init__(self, allow_none, encoding, use_builtin_types)
        self.allow_dotted_names = False
        self._reader = Reader(use_builtin_types)
        self._writer = Writer(allow_none, self.encoding)
        #: The public methods of `instance`.
        self._methods: dict[str, Method] = {}
        #: Descriptions of registered functions, which take 40 µs each to make, by name; for as long as the function is
        #: the same.
        self._described: dict[str, Method] = {}

    def register_instance(self, instance: Any, allow_dotted_names: bool = False) -> None:
        """Publish the public methods of `instance`, or what its `_dispatch` does.  Raises `ValueError` for dotted
        names, by which callers would walk from one attribute to the next: CVE-2005-0089."""
        if allow_dotted_names:
            raise ValueError("allow_dotted_names lets callers walk through attributes; register_function() names each")
        super().register_instance(instance)
        self._methods = {} if hasattr(instance, "_dispatch") else dict(Methods.of(instance))

    def publish(self, methods: Iterable[Method]) -> None:
        """Register each under its name.  A call with a value of another type than the method annotates is a fault."""
        for method in methods:
            self.register_function(checked(method), method.name)

    def published(self) -> dict[str, Method]:
        """All that can be called, by name; not what an instance's `_dispatch` does."""
        found = {name: self._describe(function, name) for name, function in self.funcs.items()}
        return dict(sorted({**self._methods, **found}.items()))

    # --- one call ----------------------------------------------------------------------------------

    def _marshaled_dispatch(  # type: ignore[override]  # typeshed has the stock one return str; it returns bytes
        self,
        data: Any,
        dispatch_method: Callable[[str, tuple[Any, ...]], Any] | None = None,
        path: Any = None,
    ) -> bytes:
        """The response to a call, both as XML.  Raises nothing."""
        method = "the call"
        try:
            method, params = self._reader.read(data)
            return self._writer.response((dispatch_method or self._dispatch)(method, params))
        except UnreadableError as error:
            return self._writer.fault(Fault(NOT_WELL_FORMED, str(error)))
        except BaseException as error:
            return self._writer.fault(fault_of(error, method))

    def _dispatch(self, method: str, params: Any) -> Any:
        """The result of one call.  Raises what the method raises."""
        function = self.funcs.get(method)
        if function is None:
            instance = self.instance
            if instance is not None and method not in self.funcs:
                if hasattr(instance, "_dispatch"):
                    return instance._dispatch(method, params)
                if (found := self._methods.get(method)) is not None:
                    return found.function(*params)
            # In the words of Python's own server, which clients look for.
            raise Fault(SAID, f'{Exception}:method "{method[:200]}" is not supported')
        return function(*params)

    # --- system ------------------------------------------------------------------------------------

    def system_listMethods(self) -> list[str]:
        """The names of all methods."""
        names = {*self.funcs, *self._methods}
        instance: Any = self.instance
        if hasattr(instance, "_listMethods"):
            names.update(instance._listMethods())
        return sorted(names)

    def system_methodSignature(self, method_name: str) -> Any:
        """The ways in which a method may be called: each the type of its result, then those of its parameters."""
        method = self._found(method_name)
        return NO_SIGNATURES if method is None else signatures_of(method.signature)

    def system_methodHelp(self, method_name: str) -> str:
        """What a method does, in its author's words."""
        instance: Any = self.instance
        if method_name not in self.funcs and hasattr(instance, "_methodHelp"):
            return str(instance._methodHelp(method_name))
        method = self._found(method_name)
        return "" if method is None else method.help

    def _found(self, name: str) -> Method | None:
        function = self.funcs.get(name)
        return self._methods.get(name) if function is None else self._describe(function, name)

    def _describe(self, function: Callable[..., Any], name: str) -> Method:
        known = self._described.get(name)
        if known is None or known.function != function:  # a method of an instance is another object each time
            known = self._described[name] = Method.named(function, name)
        return known

    def system_multicall(self, call_list: list[dict[str, Any]]) -> list[Any]:
        """Several calls at once.  The answer to each is a list with its result, or a struct with its fault."""
        if not isinstance(call_list, list):
            raise Fault(NOT_TO_BE_DONE, "system.multicall takes a list of calls")
        if len(call_list) > self.max_calls:
            raise Fault(NOT_TO_BE_DONE, f"{len(call_list)} calls; {self.max_calls} are allowed at once")
        return [self._answered(call) for call in call_list]

    def _answered(self, call: Any) -> list[Any] | dict[str, Any]:
        name = "the call"
        try:
            match call:
                case {"methodName": "system.multicall"}:
                    raise Fault(NOT_TO_BE_DONE, "system.multicall within system.multicall")
                case {"methodName": str(name), "params": list(params)}:
                    answer = [self._dispatch(name, params)]
                    self._writer.value(answer)  # for its errors: they are this call's, and not those of all
                    return answer
            raise Fault(NOT_TO_BE_DONE, "a call is a struct with a methodName and params, which is an array")
        except BaseException as error:
            fault = fault_of(error, name)
            return {"faultCode": fault.faultCode, "faultString": fault.faultString}


def fault_of(error: BaseException, method: str) -> Fault:
    """What a caller is told of it."""
    return error if isinstance(error, Fault) else Fault(SAID, told(error, method))
