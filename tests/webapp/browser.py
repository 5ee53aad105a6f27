"""Headless Chromium, told what to do over a pipe (--remote-debugging-pipe): the DevTools protocol, one JSON object a
message, each behind a NUL."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from base64 import b64decode
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

#: Seconds for one answer, or one page.
PATIENCE = 30.0

#: Nothing that asks anybody on the network, or the machine, for more than the page.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of a browser with its profile in `folder`."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # It reads from 3 and writes to 4.
        command = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command, CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdin=theirs_in,
            stdout=theirs_out,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        try:
            (target,) = [
                each for each in self.tell("Target.getTargets")["targetInfos"] if each["type"] == "page"
            ]  # about:blank
            attached = self.tell("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.tell(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, with all its processes."""
        try:
            if self._process.poll() is None:
                self._session = ""
                self.tell("Browser.close")
                self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._in)
            os.close(self._out)

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the browser's response, and collect events meanwhile."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._number:
                assert "error" not in heard, (method, heard["error"])
                return dict(heard["result"])
            self.events.append(heard)

    def _hear(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._in], [], [], left)[0], "the browser says nothing"
            data = os.read(self._in, 1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._hear())

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Set the size of the window in CSS pixels."""
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def dark(self, yes: bool = True) -> None:
        """Set the preferred color scheme."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if yes else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[feature])

    def visit(self, url: str) -> None:
        """Load a page completely."""
        self.events.clear()
        self.tell("Page.navigate", url=url)
        self._wait_for("Page.loadEventFired")

    def send(self, form: str = "form.panel", **fields: str) -> None:
        """Fill in the fields of a form without the browser's validation, and submit it."""
        self.events.clear()
        steps = [f"form.elements[{json.dumps(name)}].value = {json.dumps(text)};" for name, text in fields.items()]
        self.run(f"const form = document.querySelector({json.dumps(form)}); {' '.join(steps)} form.submit();")
        self._wait_for("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        done = self.tell("Runtime.evaluate", expression=f"{{{script}}}", returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def complaints(self) -> list[str]:
        """Return the errors logged by the browser since the last navigation, such as violations of the policy."""
        return [event["params"]["entry"]["text"] for event in self.events if event.get("method") == "Log.entryAdded"]

    def picture(self, path: Path) -> None:
        """Save a screenshot as PNG."""
        path.write_bytes(b64decode(self.tell("Page.captureScreenshot")["data"]))
