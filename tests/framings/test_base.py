"""What every framing inherits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from daemons import framings
from daemons.framings import Decoder, Framing, FramingError, Incomplete, Malformed, Oversize


class Hoarder(Decoder):
    """Decoder that holds its input and returns no message."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        super().__init__()
        self.held = b""

    def decode(self, data: bytes) -> Sequence[bytes]:
        self.held += data
        return ()

    @property
    def pending(self) -> bool:
        return bool(self.held)


class Hoard(Framing):
    def decoder(self) -> Decoder:
        return Hoarder()


def test_bytes_held_at_the_end_are_incomplete_by_default() -> None:
    decoder = Hoard().decoder()
    decoder.decode(b"half")
    assert list(decoder.finish()) == []
    assert isinstance(decoder.error, Incomplete)


def test_nothing_held_at_the_end_is_no_error() -> None:
    decoder = Hoard().decoder()
    assert list(decoder.finish()) == []
    assert decoder.error is None


def test_the_first_error_stays() -> None:
    decoder = Hoard().decoder()
    decoder.decode(b"half")
    decoder.error = first = Malformed("first")
    decoder.finish()
    assert decoder.error is first


def test_a_reply_is_sent_as_it_is_by_default() -> None:
    assert Hoard().encode(b"reply") == b"reply"


def test_a_framing_without_a_decoder_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Framing()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract"):
        Decoder()  # type: ignore[abstract]


@pytest.mark.parametrize("kind", [Oversize, Malformed, Incomplete])
def test_every_error_is_a_framing_error(kind: type[Exception]) -> None:
    assert issubclass(kind, FramingError)


def test_package_has_every_name_in_its_all() -> None:
    assert all(hasattr(framings, name) for name in framings.__all__)
