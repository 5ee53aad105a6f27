"""Creation, parsing and comparison of stored passwords."""

from __future__ import annotations

import re
import unicodedata
from types import SimpleNamespace

import pytest

from daemons.accounts.hashes import SHA256, Hash, Scrypt, encoded, generate_secret, hash_password, parse
from tests.accounts.files import CHEAP


def test_password_matches_its_hash_alone_however_its_accents_are_typed() -> None:
    stored = hash_password("caf\u00e9", CHEAP)
    assert stored.matches(encoded("cafe\u0301"))
    assert not stored.matches(encoded("cafe"))
    assert parse(str(stored)) == stored
    assert hash_password("caf\u00e9", CHEAP) != stored  # another salt


def test_secret_matches_its_hash_alone() -> None:
    secret, stored = generate_secret()
    assert len(secret) == 22
    assert (stored.slow, stored.matches(secret.encode()), stored.matches(b"other")) == (False, True, False)
    assert parse(str(stored)) == stored


def test_line_of_an_earlier_release_is_read() -> None:
    secret, stored = generate_secret()
    assert isinstance(stored, SHA256)
    assert parse(f"{stored.salt.hex()}:{stored.digest.hex()}").matches(secret.encode())


@pytest.mark.parametrize("stored", [hash_password("x", CHEAP), generate_secret()[1]], ids=["scrypt", "sha256"])
def test_decoy_is_of_the_same_cost_and_matches_nothing(stored: Hash) -> None:
    decoy = stored.decoy(b"s" * 32)
    assert type(decoy) is type(stored)
    assert decoy == stored.decoy(b"s" * 32)
    assert not decoy.matches(b"x")
    if isinstance(stored, Scrypt):
        assert isinstance(decoy, Scrypt)
        assert (decoy.cost, len(decoy.digest)) == (stored.cost, len(stored.digest))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a hash; expected scrypt$N$R$P$SALT$HASH or sha256$SALT$HASH"),
        ("md5$AA$AA", "not a hash"),
        ("sha256$00$00", "not a hash"),
        ("scrypt$3$1$1$AA==$AA==", "scrypt N=3 R=1 P=1; expected N a power of 2"),
        # hashlib would refuse that when a password comes.
        ("scrypt$65536$1$1$AA==$AA==", "scrypt N=65536 R=1 P=1; expected N a power of 2 below 2 ** (16 * R)"),
        (
            "scrypt$16777216$8$1$AA==$AA==",
            "scrypt N=16777216 R=8 P=1; expected N a power of 2 below 2 ** (16 * R), up to",
        ),
        ("scrypt$16384$8$0$AA==$AA==", "scrypt N=16384 R=8 P=0;"),
        (
            "scrypt$16384$8$65$AA==$AA==",
            "scrypt N=16384 R=8 P=65; expected N a power of 2 below 2 ** (16 * R), up",
        ),
        ("scrypt$2$1$1$AA==$AA==", "a hash of 1 bytes; expected 32"),
        ("scrypt$2$1$1$AA==$A", "the salt or the hash is not base64"),
    ],
)
def test_text_that_is_no_hash_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(reason)):
        parse(text)


@pytest.mark.parametrize("character", ["\u00e9", "\uac01", "\u0390", "\u1ec7"])
def test_form_of_a_password_does_not_matter_for_its_length(character: str) -> None:
    text = character * (256 // len(character.encode()))
    assert encoded(unicodedata.normalize("NFD", text)) == encoded(text) == text.encode()
    with pytest.raises(ValueError, match="expected at most 256"):
        encoded(unicodedata.normalize("NFD", text + character))


def test_password_is_bounded_in_bytes_before_it_is_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoded("\u00e9" * 128) == ("\u00e9" * 128).encode()
    assert encoded("\u0344" * 128) == ("\u0308\u0301" * 128).encode()

    def normalize(form: str, text: str) -> str:
        raise AssertionError("normalized")

    monkeypatch.setattr("daemons.accounts.hashes.unicodedata", SimpleNamespace(normalize=normalize))
    for text in ("\u00e9" * 384 + "x", "\u0301" * 6000, "x" * 257):
        with pytest.raises(ValueError, match="expected at most 256"):
            encoded(text)
    assert encoded("x" * 256) == b"x" * 256
