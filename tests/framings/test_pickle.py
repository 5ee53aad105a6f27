"""A pickle is self-delimiting, and a pickle that others may have written is verified before it is loaded."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from pathlib import Path

import pytest


def test_bytes_after_a_pickle_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ss.txt"
    things = [range(10), list(range(10)), {"quest": "the Grail"}]
    for thing in things:
        with open(path, "ab") as file:
            pickle.dump(thing, file)
    with open(path, "ab") as file:
        file.write(b"blahblahblah")
    with open(path, "rb") as file:
        assert [pickle.load(file) for _ in things] == things
        assert file.read() == b"blahblahblah"


def test_untrusted_pickle_is_verified_before_it_is_loaded(tmp_path: Path) -> None:
    key, ran = b"only ours", tmp_path / "ran"

    class Program:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    def load(signed: bytes) -> object:
        signature, data = signed[:32], signed[32:]
        if not hmac.compare_digest(hmac.digest(key, data, hashlib.sha256), signature):
            raise ValueError("not ours")
        return pickle.loads(data)

    data = pickle.dumps([1, 2])
    assert load(hmac.digest(key, data, hashlib.sha256) + data) == [1, 2]
    with pytest.raises(ValueError, match="not ours"):
        load(bytes(32) + pickle.dumps(Program()))
    assert not ran.exists()
