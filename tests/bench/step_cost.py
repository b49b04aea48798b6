#!/usr/bin/python3
"""What a training step costs with a mask or a compander on the weights: at most 3 % more than a plain one.

Each round trains the network through the daemon once for every arm, in another order each time, and takes the images per second of the second
epoch, in which the masks no longer change. The table shows medians over the rounds, and every arm's time per step as a share of the plain one's of the same round. Runs only mean
something on a machine without other work; `chrt -f 5` in front of the command keeps most of it away.

    make && tests/bench/step_cost.py [--arch resnet18] [--batch 128] [--rounds 5] [--precision fp32] [--threads N]
"""
import argparse, os, statistics, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import Daemon

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--arch", default="resnet18")
p.add_argument("--batch", type=int, default=128)
p.add_argument("--steps", type=int, default=4, help="steps per epoch")
p.add_argument("--rounds", type=int, default=5)
p.add_argument("--precision", default="fp32")
p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
o = p.parse_args()

ARMS = {
    "plain": {"was": False},
    "magnitude": {"weights": [{"type": "magnitude", "sparsity": 0.8, "begin": 0, "end": 0}]},
    "weightmom": {"weights": [{"type": "weightmom", "sparsity": 0.8, "begin": 0, "end": 1}]},
    "compander": {"weights": [{"type": "compander"}]},
}


def seconds_per_step(d, arm):
    job = d.submit(dataset="glyphs", model={"arch": o.arch}, data={"val_fraction": 0}, eval={"every": 2}, limits={"threads": o.threads},
                   train={"epochs": 2, "batch": o.batch, "precision": o.precision}, **ARMS[arm])
    d.wait_job(job["id"], timeout=3600)
    points = next(s["points"] for s in d.client.get(f"/v1/jobs/{job['id']}/metrics?names=images_per_s").json["series"] if s["name"] == "images_per_s")
    return o.batch / points[-1][3]


with Daemon() as d:
    d.glyphs(train=o.batch * o.steps, test=16)
    seconds_per_step(d, "plain")                                    # chooses the kernels
    times, ratios, names = {a: [] for a in ARMS}, {a: [] for a in ARMS}, list(ARMS)
    for k in range(o.rounds):
        order = names[k % len(names):] + names[:k % len(names)]
        now = {a: seconds_per_step(d, a) for a in order}
        for a in names:
            times[a].append(now[a])
            ratios[a].append(now[a] / now["plain"])

print(f"{o.arch}, batch {o.batch}, {o.precision}, {o.threads} threads, {o.rounds} rounds")
for a in names:
    print(f"{a:10} {1000 * statistics.median(times[a]):8.1f} ms a step   {statistics.median(ratios[a]):.3f} of plain   (rounds {min(ratios[a]):.3f} to {max(ratios[a]):.3f})")
sys.exit(any(statistics.median(ratios[a]) > 1.03 for a in names))
