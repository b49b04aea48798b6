#!/usr/bin/python3
"""Does the time of a width fall as its multiply-adds do? Times the networks that the modes width:W of a ResNet-18 compute with (its channels, times W), each in a process of its own,
in rounds that alternate. Speed does not depend on the weights, so that they are random.

Must hold: 0.8 of what the multiply-adds fall by.

    tests/bench/width_times.py [--batches 1,64] [--rounds 5] [--threads 2] [--fifo]"""
import argparse, json, os, statistics, subprocess, sys, tempfile

from kept import quarter
from lib import BUILD

WIDTHS = (0.25, 0.5, 0.75, 1)

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--batches", default="1,64")
p.add_argument("--rounds", type=int, default=5)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--precision", default="fp32")
p.add_argument("--fifo", action="store_true", help="real-time priority for this process and all that it starts (needs root)")
o = p.parse_args()
if o.fifo:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))


def run(here, width, batch):
    out = subprocess.run([os.path.join(BUILD, "wasd-engine"), "bench", "infer", "--model", os.path.join(here, f"{width}.json"), "--was", "off", "--precision", o.precision, "--batch", str(batch),
                          "--threads", str(o.threads), "--steps", str({1: 200}.get(batch, 10)), "--warmup", "5", "--tuning", os.path.join(here, "tuning"), "--json"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


missed = 0
with tempfile.TemporaryDirectory() as here:
    for w in WIDTHS:
        with open(os.path.join(here, f"{w}.json"), "w") as f:
            json.dump(quarter([int(c * w) for c in (64, 128, 256, 512)], f"resnet18-{w:g}"), f)
    for batch in map(int, o.batches.split(",")):
        macs = {w: run(here, w, batch)["macs_per_image"] for w in WIDTHS}    # also chooses the kernels
        ms = {w: [] for w in WIDTHS}
        for _ in range(o.rounds):
            for w in WIDTHS:
                ms[w].append(run(here, w, batch)["ms_per_step"]["total"])
        print(f"| batch {batch}, {o.precision}: width | multiply-adds | ms per step | share of the time | of the fall |\n| ---: | ---: | ---: | ---: | ---: |")
        for w in WIDTHS:
            middle, share = statistics.median(ms[w]), statistics.median(a / b for a, b in zip(ms[w], ms[1]))
            gain = (1 - share) / (1 - macs[w] / macs[1]) if w < 1 else 1
            missed += gain < 0.8
            print(f"| {w:g} | {100 * macs[w] / macs[1]:.1f} % | {middle:.2f} | {100 * share:.1f} % | {gain:.2f}{' (below 0.8)' if gain < 0.8 else ''} |", flush=True)
        print()
sys.exit(missed > 0)
