"""The commands of docs/jsonrpc.md."""

from __future__ import annotations

import shutil

import pytest

from daemons.rpc.json.service import JSONRPC
from tests.operating.conftest import _as_found, folder
from tests.operating.folder import Folder
from tests.rpc.followed import DOCS, declared, follow, shown

__all__ = ["_as_found", "folder"]

PAGE = DOCS / "jsonrpc.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: make engines")
def test_commands_of_the_page_print_the_documented_output(folder: Folder) -> None:
    # Two files, and the commands of the first block.
    follow(PAGE, folder, 7, "1094")


def test_the_table_of_settings() -> None:
    assert declared(JSONRPC.Options) == shown(PAGE)
