#!/usr/bin/python3
"""DOM as a dial: the accuracy of searched profiles, and the benefit of training for one. One ResNet-18 is trained with WAS through the daemon. Then,
for each budget of multiply-adds, `wasd bench profile` searches a draw on the validation images and compares it on test images with random draws of
the same law and cost. Finally the network is trained further for a profile of 0.6, as a job with "draw": "profile:NAME", and both accuracies are reported.

The daemon keeps everything in --state, so the run may be interrupted anywhere and continues when it is started again:
  tests/bench/dom_dial.py --state dial                     # all of it: about an hour on two cores with AVX-512
  tests/bench/dom_dial.py --state dial --seconds 0         # the results so far"""
import argparse, glob, json, os, statistics, subprocess, time

from kept import Kept, add_arguments, register, say, work
from lib import BUILD, Skip

NAME = "resnet18-to-dial"
WAS = {"transforms": [{"type": "translate", "x": 0.3, "y": 0.3, "weight": 1}], "probability": 0.5}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, default=10000, help="training images, including the held-out tenth")
    p.add_argument("--test", type=int, default=2560, help="test images; the comparison uses a random 1280 of them")
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--tune-epochs", type=int, default=4, help="epochs of the training for a profile")
    p.add_argument("--budgets", type=float, nargs="+", default=[0.9, 0.75, 0.6, 0.5])
    p.add_argument("--draws", type=int, default=200)
    p.add_argument("--evaluations", type=int, default=160)
    p.add_argument("--nice", type=int, default=10)
    return p.parse_args()


def spec(a, dataset, name, **changes):
    out = {"name": name, "dataset": dataset, "model": {"arch": "resnet18"}, "was": WAS, "data": {"val_fraction": 0.1}, "eval": {"test": "best"},
           "checkpoint": {"every": 1}, "limits": {"nice": a.nice},
           "train": {"epochs": a.epochs, "batch": 64, "seed": 1, "precision": "bf16", "augment": ["flip", "crop"],
                     "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9}, "schedule": {"type": "cosine", "warmup_epochs": 1}}}
    out["train"] = {**out["train"], **changes.pop("train", {})}
    return {**out, **changes}


def job(d, name):
    return next((j for j in d.client.get("/v1/jobs?limit=500").json["items"] if j["name"] == name and j["state"] == "completed"), None)


def best(d, j):
    """The checkpoint chosen by validation, and its results on the test images."""
    series = d.series(j["id"])
    val = series["val_acc_aom"]
    epoch = max(sorted(val), key=val.get)
    kept = [c for c in d.client.get(f"/v1/jobs/{j['id']}/checkpoints").json["items"] if c["epoch"] == epoch]
    return kept[0]["id"], {n: series[f"test_acc_{n}"].get(epoch) for n in ("aom", "dom")}


def compare(d, a, dataset, checkpoint, budget, end):
    """The result of `wasd bench profile` for one budget, stored as a file beside the daemon's."""
    kept = os.path.join(d.data, f"dial-{budget:g}-{a.draws}-{a.evaluations}.json")
    if not os.path.exists(kept):
        if time.monotonic() >= end:
            return None
        weights, images = os.path.join(d.data, "dial.wasd"), glob.glob(os.path.join(d.data, "datasets", dataset, "*.wds"))[0]
        with open(weights, "wb") as f:
            f.write(d.client.get(f"/v1/checkpoints/{checkpoint}/file?format=wasd").body)
        say(f"{time.strftime('%H:%M:%S')} budget {budget:g}")
        out = subprocess.run([os.path.join(BUILD, "wasd"), "bench", "profile", "--checkpoint", weights, "--dataset", images, "--budget", str(budget),
                              "--draws", str(a.draws), "--evaluations", str(a.evaluations), "--json"], check=True, capture_output=True, text=True,
                             env={**os.environ, "WASD_TUNING": os.path.join(d.data, "tuning.tsv")}, preexec_fn=lambda: os.nice(a.nice)).stdout
        with open(kept + ".part", "w") as f:
            f.write(out)
        os.rename(kept + ".part", kept)
    with open(kept) as f:
        return json.load(f)


def tuned(d, a, dataset, checkpoint, end):
    """The network trained further for a profile of 0.6: (the profile as found, the final results of the training)."""
    where = f"/v1/checkpoints/{checkpoint}/profiles"
    if time.monotonic() < end:
        d.client.post(where, {"name": "sixty", "desire": "macs", "budget": 0.6, "evaluations": a.evaluations})
    while (p := d.client.get(f"{where}/sixty?wait=20s", want=(200, 404)).json).get("state") not in ("ready", "failed", None) and time.monotonic() < end:
        pass
    if p.get("state") != "ready":
        return None
    name = "resnet18-tuned-for-sixty"
    work(d, [spec(a, dataset, name, init_from=checkpoint, was={**WAS, "draw": "profile:sixty"},
                  train={"epochs": a.tune_epochs, "optimizer": {"type": "sgd", "lr": 0.01, "momentum": 0.9}})], end)
    j = job(d, name)
    return j and (p, best(d, j)[1])


def report(rows, base, fine):
    print(f"\ntest accuracy of the trained ResNet-18: AOM {100 * base['aom']:.1f} %, its own random DOM {100 * base['dom']:.1f} %\n")
    print("| multiply-adds | AOM | searched | random: best | mean | worst | random as good |\n|---|---|---|---|---|---|---|")
    for r in rows:
        acc = [x["accuracy"] for x in r["random"]]
        print(f"| {r['budget']:g} ({r['searched']['macs_share']:.3f}) | {100 * r['aom']:.1f} | {100 * r['searched']['accuracy']:.1f} | {100 * max(acc):.1f} | "
              f"{100 * statistics.mean(acc):.1f} | {100 * min(acc):.1f} | {sum(x >= r['searched']['accuracy'] for x in acc)} of {len(acc)} |")
    if fine:
        found, after = fine
        print(f"\ntrained on for a profile of {found['macs_share']:.3f} of the multiply-adds: AOM {100 * after['aom']:.1f} %, profile {100 * after['dom']:.1f} % of the test images")


def main():
    a = arguments()
    end = time.monotonic() + a.seconds
    with Kept(a.state) as d:
        try:
            dataset = register(d, a.images, a.test)
        except Skip as why:
            raise SystemExit(str(why)) from None
        work(d, [spec(a, dataset, NAME)], end)
        j = job(d, NAME)
        if not j:
            raise SystemExit("the network is not trained yet")
        checkpoint, base = best(d, j)
        rows = [r for b in a.budgets if (r := compare(d, a, dataset, checkpoint, b, end))]
        fine = tuned(d, a, dataset, checkpoint, end)
    if a.json:
        print(json.dumps({"base": base, "budgets": rows, "tuned": fine}))
    else:
        report(rows, base, fine)


if __name__ == "__main__":
    main()
