"""As for tests/operating: a project folder for each test, and a process left as it was found."""

from tests.operating.conftest import _as_found, folder, metrics_file, scoreboard, slot, writes

__all__ = ["_as_found", "folder", "metrics_file", "scoreboard", "slot", "writes"]
