"""As for tests/operating: a project's folder for each test, and a process left as it was found."""

from tests.operating.conftest import _as_found, folder

__all__ = ["_as_found", "folder"]
