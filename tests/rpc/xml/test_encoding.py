"""The encoding of an XML-RPC call, decided before the parser sees the document."""

from __future__ import annotations

import codecs
import encodings
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemons.rpc.xml.encoding import CODECS, UnreadableError, decode
from daemons.rpc.xml.reader import Reader

CALL = "<methodCall><methodName>add</methodName><params><param><value>{}</value></param></params></methodCall>"


def document(name: str, text: str = "ÿ", codec: str | None = None) -> bytes:
    head = f"<?xml version='1.0' encoding='{name}'?>" if name else ""
    return (head + CALL.format(text)).encode(codec or CODECS[name.lower()])


@pytest.mark.parametrize("name", [*CODECS, *map(str.upper, CODECS)])
def test_accepted_encoding_is_decoded(name: str) -> None:
    text = "y" if CODECS[name.lower()] == "ascii" else "ÿ"
    assert Reader().read(document(name, text)) == ("add", (text,))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (document("", codec="utf-8"), "ÿ"),
        (document("", codec="utf-8-sig"), "ÿ"),
        (document("utf-8", codec="utf-8-sig"), "ÿ"),
        (document("", codec="utf-16"), "ÿ"),
        (codecs.BOM_UTF16_BE + document("utf-16", codec="utf-16-be"), "ÿ"),
        (document("utf-16", codec="utf-16-le"), "ÿ"),
        (document("", codec="utf-16-be"), "ÿ"),
        (
            b'<?xml\tversion = "1.0"\n encoding\r=\n"ISO-8859-1" standalone="yes" ?>' + document("", codec="latin-1"),
            "ÿ",
        ),
    ],
    ids=range(8),
)
def test_encoding_is_recognized_by_mark_and_first_bytes(data: bytes, text: str) -> None:
    assert Reader().read(data) == ("add", (text,))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *(
            (document(name, "y", "ascii"), f"not XML: the encoding '{name}' is not accepted; utf-8, utf-16, us-ascii")
            # Codecs of Python's that are no character encodings, or that expat cannot use, and unknown names.
            for name in ("unicode_escape", "charmap", "hz", "zlib", "idna", "rot13", "cp1252", "utf-7", "no-such")
        ),
        (document("utf-32", "y", "utf-16"), "not XML: the encoding 'utf-32' is not accepted"),
        (document("utf-8", "y", "utf-16"), "not XML: the declared encoding contradicts the first bytes"),
        (document("utf-16", "y", "ascii"), "not XML: the declared encoding contradicts the first bytes"),
        (document("latin1", "y", "utf-8-sig"), "not XML: the declared encoding contradicts the first bytes"),
        (document("", "y", "utf-32"), "not XML: "),
        (document("ascii", codec="latin-1"), "not XML: byte 100 is not ascii"),
        (document("utf-8", codec="latin-1"), "not XML: byte 100 is not utf-8"),
        (document("", "y", "utf-16")[:-1], "not XML: byte 202 is not utf-16"),
        (b"<?xml version='1.0' encoding=''?>" + document("", "y", "ascii"), "not XML: a malformed XML declaration"),
        (b"<?xml encoding='utf-8'?>" + document("", "y", "ascii"), "not XML: a malformed XML declaration"),
        (b"<?xml version='1.0'" + b" " * 300 + b"?>" + document("", "y", "ascii"), "not XML: a malformed XML"),
        (b"\n" + document("utf-8", "y"), "not XML: XML or text declaration not at start of entity"),
    ],
)
def test_other_encoding_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        Reader().read(data)
    assert str(caught.value).startswith(reason)


def test_encoding_declared_in_a_string_is_checked() -> None:
    head = "<?xml version='1.0' encoding='{}'?>"
    assert Reader().read(head.format("utf-16") + CALL.format("ÿ")) == ("add", ("ÿ",))
    with pytest.raises(UnreadableError, match="'hz' is not accepted"):
        Reader().read(head.format("hz") + CALL.format("ÿ"))
    with pytest.raises(UnreadableError, match="half of a surrogate pair"):
        Reader().read(CALL.format("\ud800"))


def test_codec_registry_is_never_asked_for_a_name_of_the_peers() -> None:
    known = len(encodings._cache)
    for number in range(100):
        for codec in ("ascii", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
            with pytest.raises(UnreadableError):
                Reader().read(document(f"x-unlike-{number}", "y", codec))
    assert len(encodings._cache) <= known + 7  # the codecs of this test's own


beginnings = st.sampled_from(
    [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"<\0", b"\0<", b"<?xml version='1.0'"]
)


@given(beginnings, st.binary(max_size=40))
def test_any_bytes_are_decoded_or_refused(beginning: bytes, rest: bytes) -> None:
    with suppress(UnreadableError):
        assert isinstance(decode(beginning + rest), str)
