"""The part of W3C WebDriver that the page test needs, a client of chromedriver over plain HTTP."""
import base64, http.client, json, os, re, shutil, subprocess, tempfile, time

from lib import PATIENCE, Skip, check, directory

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    def __init__(self, width=1360, height=1000):
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not chromium or not driver:
            raise Skip("chromium and chromium-driver are not installed")
        self.session, self.home = None, tempfile.mkdtemp(dir=directory())
        self.driver = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                       env=dict(os.environ, HOME=self.home), start_new_session=True)
        try:
            for line in self.driver.stdout:
                if m := re.search(r"successfully on port (\d+)", line):
                    self.port = int(m.group(1))
                    break
            else:
                raise Skip("chromedriver does not start here")
            options = {"binary": chromium, "args": FLAGS + [f"--user-data-dir={self.home}/profile", f"--window-size={width},{height}"]}
            made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
            self.session = "/session/" + made["sessionId"]
        except BaseException:
            self.close()
            raise

    def call(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            c.request(method, path, json.dumps(body if body is not None else {}) if method == "POST" else None, {"Content-Type": "application/json"})
            value = json.loads(c.getresponse().read())["value"]
        finally:
            c.close()
        if isinstance(value, dict) and "error" in value and "stacktrace" in value:
            raise AssertionError(f"WebDriver {path}: {value['error']}: {value['message']}")
        return value

    def open(self, url):
        self.call("POST", self.session + "/url", {"url": url})

    def run(self, script, *args):
        return self.call("POST", self.session + "/execute/sync", {"script": script, "args": list(args)})

    def find(self, css):
        return self.call("POST", self.session + "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.idle()
        self.call("POST", f"{self.session}/element/{self.find(css)}/click")

    def idle(self):
        """Waits for the work of the buttons: one that works ignores a click. A button whose dialog was closed works until the next frame."""
        self.wait("return document.querySelector('dialog[open]') || !document.querySelector('button[aria-busy]')", "buttons without work")

    def press(self, css, text):
        """Clicks the button with that text by script, wherever it is on the page."""
        self.wait("""const b = [...document.querySelectorAll(arguments[0])].find((n) => n.textContent.trim() === arguments[1] && !n.hidden && !n.disabled && !n.hasAttribute('aria-busy'));
                     b?.click(); return !!b""", f"a button {text} that is not at work", args=(css, text))

    def type(self, css, text):
        self.call("POST", f"{self.session}/element/{self.find(css)}/value", {"text": text})

    def keys(self, text):
        """Types into the focused element; \ue004 Tab, \ue007 Enter, \ue00c Escape."""
        self.idle()
        strokes = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.call("POST", self.session + "/actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    def cdp(self, command, **params):
        return self.call("POST", self.session + "/goog/cdp/execute", {"cmd": command, "params": params})

    def size(self, width, height):
        """Sets the size of the page itself, since a window cannot be as narrow as a phone. Scroll bars take no space."""
        self.cdp("Emulation.setScrollbarsHidden", hidden=True)
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.wait(f"return document.documentElement.clientWidth === {width}", f"a page {width} pixels wide")

    def scheme(self, name):
        """"light" or "dark", like the system setting; without transitions, so that colours are final at once."""
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}, {"name": "prefers-reduced-motion", "value": "reduce"}])
        self.wait(f"return matchMedia('(prefers-color-scheme: {name})').matches", name)

    def wait(self, script, what, timeout=60, args=()):
        """Waits until the script returns something true, and returns it. Runs the script every tenth of a second."""
        end = time.monotonic() + timeout * PATIENCE
        while True:
            value = self.run(script, *args)
            if value:
                return value
            check(time.monotonic() < end, f"the page did not show {what}; console: {self.console()}")
            time.sleep(0.1)

    def shows(self, script, want, what="", timeout=60):
        """Waits until the script returns that value."""
        end = time.monotonic() + timeout * PATIENCE
        while (got := self.run(script)) != want:
            check(time.monotonic() < end, f"{what + ': ' if what else ''}the page shows {got!r}, want {want!r}; console: {self.console()}")
            time.sleep(0.1)

    def console(self):
        return [entry["message"] for entry in self.call("POST", self.session + "/se/log", {"type": "browser"}) if entry["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, path):
        data = self.cdp("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def close(self):
        try:
            if self.session:
                self.call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
