"""A headless Chromium, spoken to over its DevTools pipe: pages are clicked, typed in, printed and looked at."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip
PLACES = os.pathsep.join([os.environ.get("PATH") or os.defpath, os.defpath, "/usr/local/bin"])
PATIENCE = 60  # seconds
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " ")}


def find():
    """The browser's path, or None."""
    return next((path for name in NAMES if (path := shutil.which(name, path=PLACES))), None)


class Chrome:
    """One browser with one page. errors: what the console, the page or its policy complained of; asked: URLs it wanted."""

    def __init__(self, path):
        self.folder = tempfile.mkdtemp()
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (theirs_in, theirs_out)]  # away from 3 and 4

        def place():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={self.folder}", "about:blank"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False, preexec_fn=place, start_new_session=True,
            env=os.environ | {"PATH": PLACES},
        )  # fmt: skip
        for end in (theirs_in, theirs_out, *high):
            os.close(end)
        self.inlet, self.outlet = ours_out, ours_in
        self.rest, self.number, self.session = b"", 0, None
        self.errors, self.asked, self.events = [], [], []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self(f"{domain}.enable")

    def close(self):
        """End the browser, and all that it started."""
        os.close(self.inlet)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.outlet)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, method, **values):
        """A command's result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": values}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.inlet, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self.number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]
            self._heard(found)

    def until(self, event):
        """Wait for an event that has not been heard of yet."""
        while event not in self.events:
            self._heard(self._next())
        self.events.clear()

    def _next(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.outlet], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self.outlet, 1 << 20)
            assert more, "the browser ended"
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def _heard(self, found):
        name, about = found.get("method"), found.get("params", {})
        self.events.append(name)
        if name == "Network.requestWillBeSent":
            self.asked.append(about["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.errors.append(about["exceptionDetails"]["text"])
        elif name == "Runtime.consoleAPICalled":
            self.errors.append(str([each.get("value") for each in about["args"]]))
        elif name == "Log.entryAdded":
            self.errors.append(about["entry"]["text"])
        elif name == "Audits.issueAdded" and about["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.errors.append(json.dumps(about["issue"]["details"]))
        elif name == "Page.javascriptDialogOpening":
            self.errors.append(f"dialog {about['message']}")

    def open(self, path, width=1400, height=900, scheme="light", media="", reduced=False):
        """Load a file as a reader with such a screen sees it; what was complained of before is forgotten."""
        self.errors, self.asked = [], []
        self.look(width, height, scheme, media, reduced)
        self.events.clear()
        self("Page.navigate", url=Path(path).resolve().as_uri())
        self.until("Page.loadEventFired")

    def look(self, width=1400, height=900, scheme="light", media="", reduced=False):
        """Another screen, scheme or medium for the page that is there."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        motion = "reduce" if reduced else "no-preference"
        features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]
        self("Emulation.setEmulatedMedia", media=media, features=features)

    def run(self, script):
        """The value of an expression in the page."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def click(self, selector):
        """Press the mouse in the middle of an element."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center',"
            " inline: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        """Press and release one key."""
        code, text = KEYS[key]
        about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text):
        """Put text where the cursor is."""
        self("Input.insertText", text=text)

    def screenshot(self, path, whole=True):
        """Save what is seen as a PNG, all of the page or what fits the screen."""
        data = self("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def pdf(self):
        """The page as it would be printed."""
        return base64.b64decode(self("Page.printToPDF", printBackground=False, preferCSSPageSize=True)["data"])
