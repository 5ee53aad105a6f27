"""Prerequisites of a measurement: the two C programs, wrk, and the peers' virtual environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
REQUIREMENTS = HERE / "requirements.txt"
VENV = HERE / ".venv"
PEER_PYTHON = VENV / "bin" / "python"

COMPILE_SECONDS = 60
INSTALL_SECONDS = 300

_VERSION = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"


def compile_program(name: str, folder: Path) -> Path:
    """Compile benchmarks/NAME.c into `folder`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("benchmarks: the load and the reference are C programs; install a C compiler (cc)")
    program = folder / name
    flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")
    command = [compiler, *flags, "-o", str(program), str(HERE / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks: {name}.c does not compile here:\n{done.stderr}")
    return program


def find_wrk() -> str:
    """Return the path of wrk, the HTTP load generator."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("benchmarks: the load of the web is wrk, which is not here; as root: make engines")
    return program


def pinned_version(package: str) -> str:
    """Return the version pinned in requirements.txt."""
    for line in REQUIREMENTS.read_text().splitlines():
        name, _, version = line.partition("==")
        if name.lower() == package.lower():
            return version.strip()
    raise LookupError(f"{package} is not in {REQUIREMENTS.name}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)


def _present(package: str) -> bool:
    if not PEER_PYTHON.exists():
        return False
    return _run(str(PEER_PYTHON), "-c", _VERSION, package).stdout.strip() == pinned_version(package)


def install(package: str) -> str | None:
    """Install `package` into the peers' environment; return the reason if that fails, in one line."""
    try:
        if _present(package):
            return None
        if not PEER_PYTHON.exists():
            done = _run(sys.executable, "-m", "venv", str(VENV))
            if done.returncode:
                return f"no environment for the peers: {_last_line(done.stderr or done.stdout)}"
        pip = (str(PEER_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        done = _run(*pip, "--constraint", str(REQUIREMENTS), package)
    except subprocess.TimeoutExpired:
        return f"{package} was not installed within {INSTALL_SECONDS} s"
    return f"{package} cannot be installed: {_last_line(done.stderr)}" if done.returncode else None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"
