"""Strict reader of XML-RPC calls (xmlrpc.com/spec, "Payload format"), on expat.

Simple calls take the fast path, `daemons.rpc.xml.fast_path`.
"""

from __future__ import annotations

import binascii
import re
from datetime import datetime
from typing import Any, ClassVar, Final
from xml.parsers import expat
from xmlrpc.client import Binary, DateTime

from daemons.framings.cache import BoundedCache
from daemons.rpc.xml.encoding import LONGEST_DECLARATION, UnreadableError, declared_codec, decode
from daemons.rpc.xml.fast_path import Call, read_simply
from daemons.rpc.xml.writer import DEPTH

#: Maximum number of values in a call.  Reading them takes some 100 ms, which delays all connections under ``loop``.
VALUES = 20_000

#: Maximum bytes of a call that the fast path is tried on.
SIMPLE = 16 * 1024

#: Simple calls of at most this many bytes are cached, and at most this many of them: two mebibytes in all.
REMEMBERED_LENGTH = 512
REMEMBERED_COUNT = 1024

#: Elements allowed in each element.  All other elements contain text, or nothing.
_TYPES = ("array", "struct", "i4", "int", "i1", "i2", "i8", "boolean", "string", "double", "dateTime.iso8601", "base64")
_WITHIN: Final[dict[str, frozenset[str]]] = {
    "": frozenset({"methodCall"}),
    "methodCall": frozenset({"methodName", "params"}),
    "params": frozenset({"param"}),
    "param": frozenset({"value"}),
    # Types with a prefix are Apache's: ws.apache.org/xmlrpc/types.html
    "value": frozenset({*_TYPES, "nil", "ex:nil", "ex:i1", "ex:i2", "ex:i8"}),
    "array": frozenset({"data"}),
    "data": frozenset({"value"}),
    "struct": frozenset({"member"}),
    "member": frozenset({"name", "value"}),
}

#: White space: XML 1.0, section 2.3.
_BLANKS = " \t\r\n"
_BLANK = re.compile(r"[ \t\r\n]*")
_NO_BLANKS = str.maketrans("", "", _BLANKS)

_INTEGER = re.compile(r"[ \t\r\n]*([+-]?[0-9]{1,20})[ \t\r\n]*")
_DOUBLE = re.compile(
    r"[ \t\r\n]*([+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?)[ \t\r\n]*"
)
#: Written by xmlrpc.client, although the specification does not allow them.
_NO_NUMBERS = {"nan", "inf", "-inf"}
_DATE = re.compile(r"[ \t\r\n]*([0-9]{4})-?([0-9]{2})-?([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})[ \t\r\n]*")

#: Placeholder for a missing value.
UNSET: Final = object()


class Reader:
    """Reader of calls.  With `use_builtin_types`, dates and base64 data are `datetime` and `bytes`, else the wrappers
    of `xmlrpc.client`."""

    def __init__(self, use_builtin_types: bool = False) -> None:
        self._builtin = use_builtin_types
        self._known: BoundedCache[bytes, Call] = BoundedCache(REMEMBERED_COUNT)

    def read(self, data: bytes | str) -> Call:
        """Return the call in `data`.  Raises `UnreadableError`."""
        known = self._known
        if isinstance(data, str):
            return read_fully(data, self._builtin)
        call = known.get(data)
        if call is None:
            call = read_simply(data) if len(data) <= SIMPLE else None
            if call is None:
                return read_fully(data, self._builtin)
            if len(data) <= REMEMBERED_LENGTH:
                known.keep(data, call)
        return call


def read_fully(data: bytes | str, use_builtin_types: bool = False) -> Call:
    """Return the call in `data`.  Raises `UnreadableError`; a document with a DTD is refused before it is parsed on."""
    return Builder(use_builtin_types).build(data)


class Builder:
    """Builder of a call from expat's events."""

    #: Elements allowed in each element.
    within: ClassVar[dict[str, frozenset[str]]] = _WITHIN
    #: Maximum number of values.
    values: ClassVar[int] = VALUES

    def __init__(self, builtin: bool) -> None:
        self._builtin = builtin
        #: Names of the open elements, after an empty one for the document.
        self._open = [""]
        self._text: list[str] = []
        #: The content of each open <value>; each open <array> and <struct>; name and value of each open <member>.
        self._values: list[Any] = []
        self._containers: list[Any] = []
        self._members: list[list[Any]] = []
        self._left = self.values
        self._name: str | None = None
        self._parameters: list[Any] | None = None

    def build(self, data: bytes | str) -> Call:
        """Return the call in `data`.  Raises `UnreadableError`."""
        self._parse(data)
        if self._name is None:
            raise UnreadableError("missing <methodName> in <methodCall>")
        return self._name, tuple(self._parameters or ())

    def _parse(self, data: bytes | str) -> None:
        if isinstance(data, str):
            declared_codec(data[:LONGEST_DECLARATION])
            text = data
        else:
            text = decode(data)
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        try:
            parser.Parse(text, True)
        except expat.ExpatError as error:
            raise UnreadableError(f"not XML: {error}") from None
        except UnicodeEncodeError as error:  # a string may hold half of a surrogate pair
            raise UnreadableError(f"not XML: character {error.start} is half of a surrogate pair") from None

    def _refuse(self, *declared: object) -> None:
        raise UnreadableError("document type declarations are not allowed in XML-RPC")

    def _start(self, tag: str, attributes: object) -> None:
        parent = self._open[-1]
        if tag not in self.within.get(parent, ()):
            where = f"<{parent}>" if parent else "a document"
            raise UnreadableError(f"<{tag[:40]}> is not allowed in {where}")
        self._check_blank(parent)
        self._open.append(tag)
        if tag == "value":
            self._left -= 1
            if self._left < 0:
                raise UnreadableError(f"more than {self.values} values")
            self._values.append(UNSET)
        elif parent == "value" and self._values[-1] is not UNSET:
            raise UnreadableError("two elements in one <value>")
        elif tag in ("array", "struct"):
            if len(self._containers) == DEPTH:
                raise UnreadableError(f"nested more than {DEPTH} deep")
            self._containers.append({} if tag == "struct" else None)
        elif tag == "data":
            if self._containers[-1] is not None:
                raise UnreadableError("two <data> in one <array>")
            self._containers[-1] = []
        elif tag == "member":
            self._members.append([UNSET, UNSET])
        elif tag == "param":
            assert self._parameters is not None
            self._parameters.append(UNSET)
        elif tag == "params":
            if self._parameters is not None or self._name is None:
                raise UnreadableError("expected one <params>, after <methodName>")
            self._parameters = []

    def _end(self, tag: str) -> None:
        self._open.pop()
        if tag == "value":
            self._end_value()
        elif tag in ("array", "struct"):
            self._check_blank(tag)
            made = self._containers.pop()
            if made is None:
                raise UnreadableError("missing <data> in <array>")
            self._values[-1] = made
        elif tag == "member":
            self._check_blank(tag)
            name, value = self._members.pop()
            if name is UNSET or value is UNSET:
                raise UnreadableError("expected a <name> and a <value> in <member>")
            if name in self._containers[-1]:
                raise UnreadableError("two members with the same name")
            self._containers[-1][name] = value
        elif tag == "name":
            if self._members[-1][0] is not UNSET:
                raise UnreadableError("two <name> in one <member>")
            self._members[-1][0] = self._take_text()
        elif tag == "methodName":
            if self._name is not None:
                raise UnreadableError("two <methodName>")
            self._name = self._take_text()
        elif tag in self.within:
            self._check_blank(tag)
            if tag == "param" and self._parameters and self._parameters[-1] is UNSET:
                raise UnreadableError("missing <value> in <param>")
        else:
            self._values[-1] = self._converted(tag, self._take_text())

    def _end_value(self) -> None:
        value = self._values.pop()
        if value is UNSET:
            value = self._take_text()  # "If no type is indicated, the type is string."
        else:
            self._check_blank("value")
        parent = self._open[-1]
        if parent == "data":
            self._containers[-1].append(value)
        elif parent == "member":
            if self._members[-1][1] is not UNSET:
                raise UnreadableError("two <value> in one <member>")
            self._members[-1][1] = value
        else:
            assert self._parameters is not None
            if self._parameters[-1] is not UNSET:
                raise UnreadableError("two <value> in one <param>")
            self._parameters[-1] = value

    def _take_text(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return text

    def _check_blank(self, tag: str) -> None:
        """Raise `UnreadableError` if there is text other than white space between elements."""
        if self._text and not _BLANK.fullmatch(self._take_text()):
            raise UnreadableError(f"text between the elements in <{tag}>")

    def _converted(self, tag: str, text: str) -> Any:
        tag = tag.removeprefix("ex:")
        if tag == "string":
            return text
        if tag in _BITS:
            if found := _INTEGER.fullmatch(text):
                number, bits = int(found[1]), _BITS[tag]
                if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
                    return number
                raise UnreadableError(f"{number} does not fit into an <{tag}> of {bits} bits")
        elif tag == "boolean":
            if text.strip(_BLANKS) in ("0", "1"):
                return text.strip(_BLANKS) == "1"
        elif tag == "double":
            if (found := _DOUBLE.fullmatch(text)) or text.strip(_BLANKS) in _NO_NUMBERS:
                return float(found[1] if found else text)
        elif tag == "nil":
            if not text.strip(_BLANKS):
                return None
        elif tag == "base64":
            try:
                # By default, a2b_base64 drops invalid characters, and all data after the padding.
                data = binascii.a2b_base64(text.translate(_NO_BLANKS).encode("ascii"), strict_mode=True)
            except ValueError:
                pass
            else:
                return data if self._builtin else Binary(data)
        elif not self._builtin:
            return DateTime(text.strip(_BLANKS))
        elif found := _DATE.fullmatch(text):
            try:
                return datetime(*map(int, found.groups()))  # type: ignore[arg-type]  # six of them
            except ValueError:
                pass
        raise UnreadableError(f"not a valid {tag}: {text[:40]!r}")


_BITS = {"i1": 8, "i2": 16, "int": 32, "i4": 32, "i8": 64}
