#!/usr/bin/python3
"""Successive halving over real images, left alone and with kill -9 of the daemon: both end with the same ranking.

    tests/bench/sweep_kills.py [--trials 16] [--train 500] [--test 100] [--kills 2] [--seed 1]

The images are the first of each class of WASD_SHARED/data/cifar10-images.tar.gz. The sweep runs twice on one daemon; in the second run the daemon is
killed after random numbers of results, a random time after each. The ranking of the trials, with the value of each at every rung to the last bit, must
be the same. Prints the table of web/docs/measurements.md; the exit status is 1 if the rankings differ."""
import argparse, os, random, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import Daemon, cifar_subset, equal, ranking, tar

p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
p.add_argument("--trials", type=int, default=16)
p.add_argument("--train", type=int, default=500)
p.add_argument("--test", type=int, default=100)
p.add_argument("--kills", type=int, default=2)
p.add_argument("--seed", type=int, default=1)
a = p.parse_args()
draw = random.Random(a.seed)
SWEEP = {"name": "cifar", "search": {"method": "asha", "max_trials": a.trials, "divisor": 3, "max_epochs": 9, "concurrency": 4, "metric": "val_loss_aom", "seed": a.seed},
         "template": {"dataset": "cifar10", "model": {"arch": "lenet"}, "was": {"transforms": [{"type": "translate", "x": 0.3, "y": 0.3}], "layers": "all"},
                      "train": {"schedule": {"type": "cosine"}}},
         "space": {"/train/optimizer": {"values": [{"type": "sgd", "momentum": 0.9}, {"type": "adamw", "lr": 0.001}]}, "/train/batch": {"values": [16, 32, 64]},
                   "/train/label_smoothing": {"min": 0, "max": 0.2}, "/was/probability": {"min": 0, "max": 1}}}


def run(d, kills):
    sweep = d.client.post("/v1/sweeps", SWEEP, want=201).json["id"]
    for results in kills:
        d.wait_results(sweep, results)
        time.sleep(draw.uniform(0, 1))
        active = d.client.get(f"/v1/sweeps/{sweep}").json["counts"]
        d.kill()
        print(f"killed after {results} results: {active}", file=sys.stderr, flush=True)
        d.start()
    return d.wait_sweep(sweep, "completed")


def words(values):
    return ", ".join(f"{k.split('/')[-1]} {v['type'] if isinstance(v, dict) else v}" for k, v in values.items())


with Daemon(args=["--workers", "2"]) as d:
    d.client.put("/v1/datasets/cifar10?wait=120s", tar(cifar_subset(a.train, a.test)), headers={"Content-Type": "application/x-tar"}, want=(200, 201))
    begun = time.monotonic()
    calm = run(d, [])
    print(f"undisturbed: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    killed = run(d, sorted(draw.sample(range(1, a.trials + 6), a.kills)))
    interrupted = sum(x["outcome"] == "interrupted" for t in killed["trials"] for x in d.client.get(f"/v1/jobs/{t['job']}").json["attempts"])
print("| Rank | Trial | Values | " + " | ".join(f"after {e} epochs" for e in calm["rungs"]) + " | the same with kills |")
print("| ---: | ---: | --- | " + " | ".join("---:" for _ in calm["rungs"]) + " | --- |")
for one, other in zip(calm["trials"], killed["trials"]):
    at = {r["epoch"]: f"{r['value']:.4f}" for r in one["rungs"]}
    same = "yes" if ranking({"trials": [one]}) == ranking({"trials": [other]}) else f"no: trial {other['trial']}"
    print(f"| {one['rank']} | {one['trial']} | {words(one['values'])} | " + " | ".join(at.get(e, "") for e in calm["rungs"]) + f" | {same} |")
print(f"\n{a.kills} kills, {interrupted} attempts interrupted")
equal(ranking(killed), ranking(calm))
