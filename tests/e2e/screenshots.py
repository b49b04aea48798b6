#!/usr/bin/python3
"""Makes the pictures of README and reference: screenshots.py [DATA]. DATA is a data directory that is kept, so that a second run trains nothing.
Needs chromium and chromedriver. Writes web/docs/*.png."""
import base64, os, sys

from lib import TOP, Daemon, check
from webdriver import Browser

WIDTH, HEIGHT = 1200, 760


def prepare(d):
    """Trains a LeNet with a profile and serves it in DOM. Returns its job."""
    if jobs := d.client.get("/v1/jobs?name=digits-lenet").json["items"]:
        return jobs[0]["id"]
    d.glyphs("digits", train=6000, test=500)
    job = d.submit(name="digits-lenet", dataset="digits", model={"arch": "lenet"}, was={"layers": "all", "alpha": "fixed"},
                   train={"epochs": 12, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.002}, "schedule": {"type": "cosine", "warmup_epochs": 1}},
                   profiles=[{"desire": "macs", "budget": b, "evaluations": 48} for b in (0.9, 0.8, 0.7)])["id"]
    d.wait_job(job, timeout=1800)
    d.client.post("/v1/deployments?wait=60s", {"name": "digits", "source": {"job": job}, "mode": "dom:macs-80"}, want=(201, 202))
    return job


def shoot(b, name):
    """A screenshot of the visible part of the window."""
    data = base64.b64decode(b.call("POST", b.session + "/goog/cdp/execute", {"cmd": "Page.captureScreenshot", "params": {}})["data"])
    path = os.path.join(TOP, "web/docs", name + ".png")
    check(len(data) < 150 << 10, f"{name}.png has {len(data)} bytes")
    with open(path, "wb") as f:
        f.write(data)
    print(f"{path}: {len(data)} bytes")


def scheme(b, name):
    b.call("POST", b.session + "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [{"name": "prefers-color-scheme", "value": name}]}})


def page(d, b, job):
    b.size(WIDTH, HEIGHT)
    scheme(b, "light")
    b.open(f"http://127.0.0.1:{d.port}/#{job}")
    b.wait("return [...document.querySelectorAll('.plot')].length >= 2 && [...document.querySelectorAll('.plot')].every((p) => p.dataset.rows >= 5)", "the curves")
    b.wait("return document.querySelector('.deployment .badge')?.dataset.state === 'ready'", "the live model")
    b.wait("const i = [...document.querySelectorAll('.strip img')]; return i.length > 3 && i.every((n) => n.complete)", "the images of the data set")
    b.press(".deployment button", "Random test image")
    b.wait("const r = document.querySelector('.result'); return r && !r.hidden && r.querySelectorAll('.answers li').length >= 5", "an answer")
    b.run("document.activeElement?.blur(); window.scrollTo(0, 0)")
    shoot(b, "dashboard")
    scheme(b, "dark")
    b.run("window.scrollTo(0, document.querySelector('#deployments').getBoundingClientRect().top + scrollY - 12)")
    shoot(b, "modes")


with Daemon(*sys.argv[1:2]) as daemon:
    its = prepare(daemon)
    with Browser(WIDTH, HEIGHT) as browser:
        page(daemon, browser, its)
