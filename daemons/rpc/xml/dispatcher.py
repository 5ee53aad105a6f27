"""`xmlrpc.server.SimpleXMLRPCDispatcher`, hardened and faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCDispatcher

from daemons.rpc.faults import fault_text
from daemons.rpc.methods import LONGEST_RESULTS, Method, Methods
from daemons.rpc.xml.encoding import UnreadableError
from daemons.rpc.xml.introspection import NO_SIGNATURES, signatures_of
from daemons.rpc.xml.parameter_types import checked
from daemons.rpc.xml.reader import Reader
from daemons.rpc.xml.writer import Writer

#: Fault codes: xmlrpc-epi.sourceforge.net/specs/rfc.fault_codes.php.  An exception of a method is 1, which Python's own
#: server uses for all faults.
METHOD_ERROR = 1
NOT_WELL_FORMED = -32700
INVALID_REQUEST = -32600

#: Default maximum number of calls in one system.multicall.
CALLS = 1000


class Dispatcher(SimpleXMLRPCDispatcher):
    """Dispatcher from an XML call to a method, and from its result to an XML response.  Used like the stock class:
    `register_function`, `register_instance`, `_dispatch` and `_marshaled_dispatch` may be overridden.

    Differences: calls are read strictly, and without a DTD; names are looked up in dictionaries only; exceptions are
    reported as by `daemons.rpc.faults.fault_text`; each call of a multicall has its own result or fault, even if its
    result cannot be marshaled."""

    #: Maximum number of calls in a multicall.
    max_calls = CALLS

    def __init__(self, allow_none: bool = False, encoding: str | None = None, use_builtin_types: bool = False) -> None:
        SimpleXMLRPCDispatcher.__init__(self, allow_none, encoding, use_builtin_types)
        self.allow_dotted_names = False
        self._reader = Reader(use_builtin_types)
        self._writer = Writer(allow_none, self.encoding)
        #: Public methods of `instance`.
        self._methods: dict[str, Method] = {}
        #: Cached descriptions of registered functions by name; making one takes 40 µs.  An entry is replaced when
        #: another function is registered.
        self._described: dict[str, Method] = {}

    def register_instance(self, instance: Any, allow_dotted_names: bool = False) -> None:
        """Publish the public methods of `instance`, or its `_dispatch`.  Raises `ValueError` for dotted names, which
        would let callers traverse attributes: CVE-2005-0089."""
        if allow_dotted_names:
            raise ValueError("allow_dotted_names lets callers traverse attributes; use register_function() instead")
        super().register_instance(instance)
        self._methods = {} if hasattr(instance, "_dispatch") else dict(Methods.of(instance))

    def publish(self, methods: Iterable[Method]) -> None:
        """Register each method under its name.  An argument of another type than annotated is a fault."""
        for method in methods:
            self.register_function(checked(method), method.name)

    def published(self) -> dict[str, Method]:
        """Return all published methods by name, except those that an instance's `_dispatch` implements."""
        found = {name: self._describe(function, name) for name, function in self.funcs.items()}
        return dict(sorted({**self._methods, **found}.items()))

    # --- calls -------------------------------------------------------------------------------------

    def _marshaled_dispatch(  # type: ignore[override]  # typeshed has the stock one return str; it returns bytes
        self,
        data: Any,
        dispatch_method: Callable[[str, tuple[Any, ...]], Any] | None = None,
        path: Any = None,
    ) -> bytes:
        """Return the XML response to an XML call.  Raises nothing."""
        method = "the call"
        try:
            method, params = self._reader.read(data)
            return self._writer.response((dispatch_method or self._dispatch)(method, params))
        except UnreadableError as error:
            return self._writer.fault(Fault(NOT_WELL_FORMED, str(error)))
        except BaseException as error:
            return self._writer.fault(fault_of(error, method))

    def _dispatch(self, method: str, params: Any) -> Any:
        """Return the result of one call.  Raises any exception of the method."""
        function = self.funcs.get(method)
        if function is None:
            instance = self.instance
            if instance is not None and method not in self.funcs:
                if hasattr(instance, "_dispatch"):
                    return instance._dispatch(method, params)
                if (found := self._methods.get(method)) is not None:
                    return found.function(*params)
            # Clients match the text of Python's own server.
            raise Fault(METHOD_ERROR, f'{Exception}:method "{method[:200]}" is not supported')
        return function(*params)

    # --- system methods ----------------------------------------------------------------------------

    def system_listMethods(self) -> list[str]:
        """Return the names of all methods."""
        names = {*self.funcs, *self._methods}
        instance: Any = self.instance
        if hasattr(instance, "_listMethods"):
            names.update(instance._listMethods())
        return sorted(names)

    def system_methodSignature(self, method_name: str) -> Any:
        """Return the signatures of a method: each the type of the result, followed by those of the parameters."""
        method = self._found(method_name)
        return NO_SIGNATURES if method is None else signatures_of(method.signature)

    def system_methodHelp(self, method_name: str) -> str:
        """Return the documentation of a method."""
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
        if known is None or known.function != function:  # bound methods are equal, but not identical
            known = self._described[name] = Method.named(function, name)
        return known

    def system_multicall(self, call_list: list[dict[str, Any]]) -> list[Any]:
        """Execute several calls.  Each result is a list of one value, or a struct with a fault."""
        if not isinstance(call_list, list):
            raise Fault(INVALID_REQUEST, "system.multicall expects an array of calls")
        if len(call_list) > self.max_calls:
            raise Fault(INVALID_REQUEST, f"{len(call_list)} calls; at most {self.max_calls} are allowed in a multicall")
        results = []
        left = LONGEST_RESULTS
        for call in call_list:
            result, length = self._call_one(call, refuse=left < 0)
            left -= length
            results.append(result)
        return results

    def _call_one(self, call: Any, *, refuse: bool) -> tuple[list[Any] | dict[str, Any], int]:
        """Return the result of one call of a multicall, or a struct with its fault, and the length in characters."""
        name = "the call"
        try:
            if refuse:
                text = f"not called: the results of this multicall exceed {LONGEST_RESULTS} characters"
                raise Fault(INVALID_REQUEST, text)
            match call:
                case {"methodName": "system.multicall"}:
                    raise Fault(INVALID_REQUEST, "system.multicall within system.multicall")
                case {"methodName": str(name), "params": list(params)}:
                    answer = [self._dispatch(name, params)]
                    # Marshaling errors belong to this call, not to the whole multicall.
                    return answer, len(self._writer.value(answer))
            raise Fault(INVALID_REQUEST, "expected a struct with methodName and params, an array")
        except BaseException as error:
            fault = fault_of(error, name)
            return {"faultCode": fault.faultCode, "faultString": fault.faultString}, len(str(fault.faultString))


def fault_of(error: BaseException, method: str) -> Fault:
    """Log an exception of `method` and return the fault for the caller."""
    return error if isinstance(error, Fault) else Fault(METHOD_ERROR, fault_text(error, method))
