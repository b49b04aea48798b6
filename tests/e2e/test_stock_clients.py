#!/usr/bin/python3
"""Unmodified clients from PyPI, in a virtual environment of the build tree, against a real daemon. If PyPI cannot be
reached, the test reports that and is skipped."""
import json, os, subprocess, sys

from lib import BUILD, TOP, Daemon, directory, noise_png

PACKAGES = ["tritonclient[http]==2.73.0", "aiohttp"]


def environment():
    """The Python with the clients; or None and the reason."""
    home = os.path.join(BUILD, "clients")
    python, stamp = os.path.join(home, "bin", "python"), os.path.join(home, "packages.json")
    if os.path.exists(stamp) and json.load(open(stamp)) == PACKAGES:
        return python, None
    for step in ([sys.executable, "-m", "venv", "--clear", home], [python, "-m", "pip", "install", "-q", "--retries", "1", "--timeout", "20", *PACKAGES]):
        try:
            p = subprocess.run(step, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return None, "pip had not ended after 300 s"
        if p.returncode:
            return None, (p.stdout + p.stderr).strip().splitlines()[-1]
    with open(stamp, "w") as f:
        json.dump(PACKAGES, f)
    return python, None


python, why = environment()
if not python:
    print(f"skip stock clients: {why}")
    sys.exit(0)
with Daemon() as d:
    d.glyphs(train=300, test=50)
    job = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 1, "batch": 32})["id"])
    d.deploy("reader", job["id"])
    picture = os.path.join(directory(), "noise.png")
    with open(picture, "wb") as f:
        f.write(noise_png(1, 40))
    sys.stdout.flush()
    done = subprocess.run([python, os.path.join(TOP, "tests", "e2e", "stock_clients.py"), str(d.port), "reader", picture])
    if done.returncode not in (0, 1):
        print(f"not ok stock clients: exit status {done.returncode}")
sys.exit(done.returncode)
