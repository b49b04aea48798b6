#!/usr/bin/python3
"""The small form of tests/bench/kills.py: kill -9 at random moments of everything that the API can change."""
import os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from lib import SANITIZED, Daemon, case, finish
import kills

KILLS, SEED = (3 if SANITIZED else 8), int(os.environ.get("WASD_SEED", "20261130"))

with Daemon(args=["--workers", "2"]) as d:
    with case(f"{KILLS} kills of the daemon and of engines under all kinds of changes: nothing acknowledged is lost"):
        s = kills.run(d, KILLS, SEED)
        print(f"# killed {dict(s['killed'])}, seed {SEED}; {s['changes']} changes of {s['kinds']} kinds, {s['compared']} jobs with the losses of an undisturbed one")

finish()
