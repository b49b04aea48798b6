#!/usr/bin/python3
"""`wasd export JOB --format tensorboard`: TensorBoard from PyPI reads the event file. If PyPI cannot be reached, the test reports that and is
skipped."""
import os, subprocess, sys

from clients import TENSORBOARD, environment
from lib import BUILD, TOP, Daemon, check, directory, equal

python, why = environment("tensorboard", TENSORBOARD)
if not python:
    print(f"skip tensorboard: {why}")
    sys.exit(0)


def export(d, *args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), "export", *args, "--url", f"http://127.0.0.1:{d.port}"], cwd=here, capture_output=True, text=True)
    equal(p.returncode, rc, p.stdout + p.stderr)
    return p.stdout + p.stderr


here = directory()
with Daemon(args=["--sample-ms", "1"]) as d:
    d.glyphs(train=200, test=50)
    job = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, name="first try",
                              train={"epochs": 2, "batch": 32, "seed": 2, "optimizer": {"type": "adamw", "lr": 0.001}})["id"])["id"]
    run = f"tensorboard/first-try.{job}"
    for _ in range(2):                                          # the second replaces the first
        equal(export(d, "first try", "--format", "tensorboard").split(":")[0], f"{run}/events.out.tfevents.{job}")
    export(d, job, "--format", "tensorboard", "--out", "logs")
    equal(os.listdir(os.path.join(here, "logs")), [f"first-try.{job}"])
    check("--out is for" in export(d, job, "--format", "onnx", "--out", "logs", rc=2), "--out without tensorboard")
    check("no job" in export(d, "nothing", "--format", "tensorboard", rc=1), "an unknown job")
    sys.stdout.flush()
    done = subprocess.run([python, os.path.join(TOP, "tests", "e2e", "tensorboard_client.py"), str(d.port), os.path.join(here, run), job])
    if done.returncode not in (0, 1):
        print(f"not ok tensorboard: exit status {done.returncode}")
sys.exit(done.returncode)
