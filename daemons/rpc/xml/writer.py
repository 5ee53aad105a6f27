"""Writer of XML-RPC values (xmlrpc.com/spec, "Payload format"), byte for byte as `xmlrpc.client.dumps`.

Differences: a character that XML does not allow is an error, instead of making the document malformed; carriage
returns are preserved; and an object is not marshaled as a struct of its attributes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from xmlrpc.client import MAXINT, MININT, Binary, DateTime, Fault

#: Maximum nesting depth of lists and dictionaries, for calls as well.
DEPTH = 64

#: Text that needs no escaping, and characters that XML does not allow: XML 1.0, section 2.2.
_PLAIN = re.compile("[\t\n -%'-;=?-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: A bare carriage return would be read as a line feed: section 2.11.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})

_HEAD = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n"
_FOOT = "</param>\n</params>\n</methodResponse>\n"
_INT = f"{_HEAD}<value><int>".encode(), f"</int></value>\n{_FOOT}".encode()
_STRING = f"{_HEAD}<value><string>", f"</string></value>\n{_FOOT}"


class Writer:
    """Writer of calls and responses in `encoding`, any codec of Python."""

    def __init__(self, allow_none: bool = False, encoding: str = "utf-8") -> None:
        self._allow_none = allow_none
        self._encoding = encoding
        self._as_it_is = encoding == "utf-8"
        self._head = "<?xml version='1.0'?>\n" if self._as_it_is else f"<?xml version='1.0' encoding='{encoding}'?>\n"

    def response(self, value: Any) -> bytes:
        """Return the response with a result.  Raises `TypeError`, `OverflowError` or `ValueError` for a value that
        cannot be marshaled."""
        if self._as_it_is:
            kind = type(value)
            if kind is int and MININT <= value <= MAXINT:
                return b"%b%d%b" % (_INT[0], value, _INT[1])
            if kind is str and _PLAIN.fullmatch(value):
                return f"{_STRING[0]}{value}{_STRING[1]}".encode()
        text = f"<methodResponse>\n<params>\n<param>\n{self.value(value)}{_FOOT}"
        return (self._head + text).encode(self._encoding, "xmlcharrefreplace")

    def call(self, method: str, params: Iterable[Any]) -> bytes:
        """Return a call.  Raises as `response`."""
        written = "".join(f"<param>\n{self.value(each)}</param>\n" for each in params)
        name = f"<methodName>{escaped(method)}</methodName>"
        text = f"{self._head}<methodCall>\n{name}\n<params>\n{written}</params>\n</methodCall>\n"
        return text.encode(self._encoding, "xmlcharrefreplace")

    def fault(self, fault: Fault) -> bytes:
        """Return the response with a fault.  Illegal characters of the text are dropped; an invalid code becomes 1."""
        text = _ILLEGAL.sub("", str(fault.faultString))
        code = fault.faultCode if type(fault.faultCode) is int and MININT <= fault.faultCode <= MAXINT else 1
        value = self.value({"faultCode": code, "faultString": text})
        text = f"{self._head}<methodResponse>\n<fault>\n{value}</fault>\n</methodResponse>\n"
        return text.encode(self._encoding, "xmlcharrefreplace")

    def value(self, value: Any) -> str:
        """Return one value as XML.  Raises as `response`."""
        out: list[str] = []
        self._write(value, out, DEPTH)
        return "".join(out)

    def _write(self, value: Any, out: list[str], depth: int) -> None:
        kind = type(value)
        if kind is str:
            out.append(f"<value><string>{escaped(value)}</string></value>\n")
        elif kind is bool:
            out.append(f"<value><boolean>{value:d}</boolean></value>\n")
        elif kind is int:
            if not MININT <= value <= MAXINT:
                raise OverflowError("int exceeds the XML-RPC limits of 32 bits")
            out.append(f"<value><int>{value}</int></value>\n")
        elif kind is float:
            out.append(f"<value><double>{value!r}</double></value>\n")
        elif value is None:
            if not self._allow_none:
                raise TypeError("cannot marshal None unless allow_none is enabled")
            out.append("<value><nil/></value>")
        elif kind in (list, tuple, dict):
            if not depth:
                raise ValueError(f"cannot marshal values nested more than {DEPTH} deep")
            (self._write_struct if kind is dict else self._write_array)(value, out, depth - 1)
        elif kind in (bytes, bytearray, Binary):
            data = base64.encodebytes(value.data if kind is Binary else value).decode()
            out.append(f"<value><base64>\n{data}</base64></value>\n")
        elif kind in (datetime, DateTime):
            # The specification does not define time zones; like xmlrpc.client, drop the zone of a datetime.
            text = escaped(value.value) if kind is DateTime else f"{value.year:04}{value:%m%dT%H:%M:%S}"
            out.append(f"<value><dateTime.iso8601>{text}</dateTime.iso8601></value>\n")
        else:
            raise TypeError(f"cannot marshal {kind} objects")

    def _write_array(self, value: Any, out: list[str], depth: int) -> None:
        out.append("<value><array><data>\n")
        for each in value:
            self._write(each, out, depth)
        out.append("</data></array></value>\n")

    def _write_struct(self, value: dict[Any, Any], out: list[str], depth: int) -> None:
        out.append("<value><struct>\n")
        for name, each in value.items():
            if not isinstance(name, str):
                raise TypeError(f"dictionary key must be string, not {type(name).__name__}")
            out.append(f"<member>\n<name>{escaped(name)}</name>\n")
            self._write(each, out, depth)
            out.append("</member>\n")
        out.append("</struct></value>\n")


def escaped(text: str) -> str:
    """Return `text` escaped for XML.  Raises `ValueError` for an illegal character."""
    if _PLAIN.fullmatch(text):
        return text
    if wrong := _ILLEGAL.search(text):
        raise ValueError(f"cannot marshal the character U+{ord(wrong[0]):04X}; send bytes")
    return text.translate(_ESCAPES)
