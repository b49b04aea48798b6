#!/usr/bin/python3
"""An unmodified MlflowClient from PyPI reads the runs of a real daemon. If PyPI cannot be reached, the test reports that and is skipped."""
import os, subprocess, sys

from clients import MLFLOW, environment
from lib import TOP, Daemon

python, why = environment("mlflow", MLFLOW)
if not python:
    print(f"skip mlflow: {why}")
    sys.exit(0)
with Daemon() as d:
    d.glyphs(train=200, test=50)
    jobs = [d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, name=name, labels={"team": "blue"}, note="for mlflow",
                                train={"epochs": epochs, "batch": 32, "seed": 2})["id"])["id"] for name, epochs in (("one", 1), ("two", 2))]
    sys.stdout.flush()
    done = subprocess.run([python, os.path.join(TOP, "tests", "e2e", "mlflow_client.py"), str(d.port), *jobs])
    if done.returncode not in (0, 1):
        print(f"not ok mlflow: exit status {done.returncode}")
sys.exit(done.returncode)
