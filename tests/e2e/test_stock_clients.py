#!/usr/bin/python3
"""Unmodified clients from PyPI, in a virtual environment of the build tree, against a real daemon. If PyPI cannot be
reached, the test reports that and is skipped."""
import os, re, subprocess, sys

from clients import environment
from lib import TOP, Daemon, case, check, directory, finish, noise_png

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
    conversations = 0
    failed = False
    for script in ("stock_clients.py", "kserve_clients.py"):
        done = subprocess.run([python, os.path.join(TOP, "tests", "e2e", script), str(d.port), "reader", picture], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(done.stdout, end="", flush=True)
        conversations += len(re.findall(r"^(?:ok|not ok) ", done.stdout, re.M))
        failed = failed or done.returncode != 0
        if done.returncode not in (0, 1):
            print(f"not ok {script}: exit status {done.returncode}")
    print(f"# {conversations} conversations with unmodified clients")
    with case("stock clients: at least 80 conversations"):
        check(conversations >= 80, f"only {conversations}")
if failed:
    sys.exit(1)
finish()
