"""CPython's tests of its XML-RPC server, run with ours, and the expected failures."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

#: Expected failures, with the reasons.
OTHER = {
    "test_allow_dotted_names_true": "callers would walk through attributes: CVE-2005-0089",
    "test_client_encoding": "ISO-8859-15; just UTF-8, UTF-16, US-ASCII and ISO-8859-1 are accepted",
    "test_fail_no_info": "changes MessageClass while the server runs; here it is read when the server is made",
    "test_fail_with_info": "the same",
    "test_introspection1": "expects a class within the instance among its methods; only methods are published",
    "test_path_fragment": "a target with a # in it is refused with 400: RFC 9112, section 3.2",
    "test_path_query_fragment": "the same",
    "test_empty_path_fragment": "the same",
    "test_empty_path_query": "a target that does not begin with a / is refused with 400: the same section",
}


@pytest.mark.skipif(
    importlib.util.find_spec("test.test_xmlrpc") is None,
    reason="this Python came without its tests: make engines, for that of Debian",
)
def test_cpythons_tests_pass_with_our_server() -> None:
    program = Path(__file__).with_name("cpython_xmlrpc.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", program],
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts, *failed = done.stdout.split("\n")[:-1]
    assert set(failed) == set(OTHER), done.stderr
    assert int(counts.split()[0]) > 40
