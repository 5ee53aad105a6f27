"""Fast path for simple XML-RPC calls: one regular expression in place of expat.

Most calls are as simple as ``add(3, 5)``.  The fast path accepts only documents that the full reader reads as the same
call; `tests/rpc/xml/test_fast_path.py` compares the two.

The patterns need no possessive quantifiers, which `re` of Python 3.11.2 gets wrong: each repetition is followed by a
character that it cannot match, so there is one way to match a document, and the time is linear in its size.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

#: A method's name and the arguments.
Call = tuple[str, tuple[Any, ...]]

#: White space between elements: XML 1.0, section 2.3.  `\s` would accept vertical tabs and form feeds, too.
_BLANK = rb"[ \t\r\n]*"

#: All bytes of a simple call are ASCII, so it does not matter which of the accepted encodings it declares.  There is no
#: markup in a string, nor a `>`, which might end a `]]>`, nor a carriage return, which XML reads as a line feed.
_TEXT = rb"[\t\n -%'-;=?-~]*"
_VALUE = (
    rb"<value>(?:<int>(?P<int>[+-]?[0-9]{1,9})</int>|<i4>(?P<i4>[+-]?[0-9]{1,9})</i4>|"
    rb"<string>(?P<string>%b)</string>|<double>(?P<double>-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?)"
    rb"</double>|<boolean>(?P<boolean>[01])</boolean>|(?P<text>%b))</value>" % (_TEXT, _TEXT)
)
_PARAMETER = rb"<param>%b%b%b</param>%b" % (_BLANK, _VALUE, _BLANK, _BLANK)
_CALL = re.compile(
    rb"(?:<\?xml version=(?:'1\.0'|\"1\.0\")(?: encoding=(?:'(?i:utf-8|us-ascii)'|\"(?i:utf-8|us-ascii)\"))? ?\?>)?"
    rb"%b<methodCall>%b<methodName>([A-Za-z0-9_.:/]+)</methodName>%b"
    rb"(?:<params>%b((?:%b)*)</params>%b)?</methodCall>%b"
    % (_BLANK, _BLANK, _BLANK, _BLANK, re.sub(rb"\?P<\w+>", rb"?:", _PARAMETER), _BLANK, _BLANK)
)
_PARAMETERS = re.compile(_PARAMETER)

_CONVERTED: dict[str | None, Callable[[bytes], Any]] = {
    "int": int,
    "i4": int,
    "double": float,
    "string": bytes.decode,
    "text": bytes.decode,
    "boolean": b"1".__eq__,
}


def read_simply(data: bytes) -> Call | None:
    """Return the call in `data` if all its parameters are numbers, booleans and ASCII strings without markup; None if
    the full reader must decide."""
    match = _CALL.fullmatch(data)
    if match is None:
        return None
    name, parameters = match.groups()
    if not parameters:
        return name.decode(), ()
    found = _PARAMETERS.finditer(parameters)
    return name.decode(), tuple([_CONVERTED[each.lastgroup](each[each.lastgroup or 0]) for each in found])
