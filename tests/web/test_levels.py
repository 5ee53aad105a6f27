"""What docs/levels.md shows is what happens: one page, asked for at each level, has one body."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from daemons.serving.pump import Pump
from tests.serving.running import Within
from tests.web.example_site import LONG, TEXT, make, service

PAGE = Path(__file__).parents[2] / "docs" / "levels.md"


def test_a_page_is_the_same_at_every_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    code = re.search(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert code is not None
    shown: dict[str, Any] = {"__name__": "levels"}
    exec(compile(code[1], "levels.py", "exec"), shown)
    running = Within("loop", Pump.for_service(service(make(tmp_path))))
    try:
        port = running.address[1]
        for path, body in (("/text.txt", TEXT), ("/long.bin", LONG)):
            for name in ("by_url", "by_http", "by_socket"):
                assert shown[name]("127.0.0.1", port, path) == body, name
            assert httpx2.get(f"http://127.0.0.1:{port}{path}", trust_env=False, timeout=10).content == body
    finally:
        running.close()
