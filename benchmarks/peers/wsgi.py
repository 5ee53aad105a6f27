"""The WSGI applications that the peers run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from benchmarks.unchanged import FILES_VARIABLE
from benchmarks.unchanged import hello as unchanged_hello

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def hello() -> WSGIApplication:
    """Application that responds with five bytes."""
    return unchanged_hello


def files() -> WSGIApplication:
    """whitenoise, which knows all files from the beginning."""
    from whitenoise import WhiteNoise

    application: WSGIApplication = WhiteNoise(unchanged_hello, root=os.environ[FILES_VARIABLE])
    return application


APPLICATIONS = {"hello": hello, "files": files}
