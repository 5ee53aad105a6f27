"""Fixtures of tests/operating: a project folder, and a restored process."""

from tests.operating.conftest import _as_found, folder, metrics_file, scoreboard, slot, writes

__all__ = ["_as_found", "folder", "metrics_file", "scoreboard", "slot", "writes"]
