"""constraints.txt: the packages that `make run` and `make test` install, each file pinned by its hash."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
TEXT = (PROJECT / "constraints.txt").read_text("utf-8")

#: One pin, and the lines of its hashes.
ENTRY = re.compile(r"^([^\s#;=]+)==([^\s;\\]+)[^\\\n]*((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", re.MULTILINE)


def requirements() -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg", "utf-8")
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    lines = "\n".join(texts).splitlines()
    return [Requirement(line) for line in sorted(set(lines)) if line and not line.startswith("#")]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_each_requirement_is_pinned_to_a_version_that_it_allows(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    pinned = [entry[2] for entry in ENTRY.finditer(TEXT) if canonicalize_name(entry[1]) == name]
    assert pinned, "not in constraints.txt: make constraints"
    assert all(requirement.specifier.contains(version) for version in pinned)


def test_each_pin_has_a_hash() -> None:
    assert all(entry[3] for entry in ENTRY.finditer(TEXT))
    assert len(list(ENTRY.finditer(TEXT))) == len(re.findall(r"^\S+==", TEXT, re.MULTILINE))


def test_no_index_is_named() -> None:
    assert "://" not in TEXT
    assert "--index" not in TEXT
    assert "--extra-index" not in TEXT
