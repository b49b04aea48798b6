#!/usr/bin/python3
"""Unmodified clients from PyPI, in a virtual environment of the build tree, against a real daemon. If PyPI cannot be
reached, the test reports that and is skipped."""
import os, subprocess, sys

from clients import environment
from lib import TOP, Daemon, directory, noise_png

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
