#!/usr/bin/python3
"""Compares training curves in bf16 and fp32: ResNet-18 with WAS (translate) and without, on the first photographs of every class of
CIFAR-10, several seeds, through the daemon's API. Per epoch and metric: mean and standard deviation over the seeds in both precisions, and
whether the two means are as close as runs of one precision: the difference must be within the 95 % bound of Student's t.

The daemon keeps everything in --state, so the run may be interrupted anywhere (--seconds, Ctrl-C) and continues when it is started again:
  tests/bench/precision_curves.py --state curves                                  # about six minutes on two cores with AVX-512
  tests/bench/precision_curves.py --state curves --seconds 60                     # one minute of it; repeat until it is done
  tests/bench/precision_curves.py --state curves --seconds 0 --json               # the results so far, as JSON"""
import argparse, json, math, statistics, time

from kept import Kept, add_arguments, jobs, register, say, work
from lib import Skip

WAS = {"translate": {"transforms": [{"type": "translate", "x": 0.3, "y": 0.3, "weight": 1}]}, "plain": False}
NUMBERS = ("train_loss", "train_acc", "val_loss_aom", "val_acc_aom", "val_loss_dom", "val_acc_dom")
T95 = {2: 4.303, 4: 2.776, 6: 2.447, 8: 2.306, 10: 2.228, 12: 2.179, 14: 2.145, 16: 2.120, 18: 2.101}      # degrees of freedom: bound
PRECISIONS = ("fp32", "bf16")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--arch", default="resnet18")
    p.add_argument("--was", nargs="+", choices=list(WAS), default=list(WAS))
    p.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="number of seeds, 2 to 10")
    p.add_argument("--train", type=int, default=1000, help="training images")
    p.add_argument("--test", type=int, default=500, help="test images")
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=0.02)
    a = p.parse_args()
    if not 2 <= len(set(a.seeds)) <= 10:
        p.error("--seeds: 2 to 10 different ones are needed")
    return a


def wanted(a, dataset):
    """{(was, precision, seed): spec}, seed by seed, so that an interrupted run has all kinds. The name contains everything that matters."""
    out = {}
    for seed in a.seeds:
        for was in a.was:
            for precision in PRECISIONS:
                out[was, precision, seed] = {
                    "name": f"{a.arch}-{was}-{precision}-seed{seed}-e{a.epochs}-b{a.batch}-lr{a.lr:g}-{dataset}", "dataset": dataset, "data": {"val_fraction": 0},
                    "model": {"arch": a.arch}, "was": WAS[was], "checkpoint": {"every": a.epochs}, "limits": {"nice": 0},
                    "train": {"epochs": a.epochs, "batch": a.batch, "seed": seed, "precision": precision, "optimizer": {"type": "sgd", "lr": a.lr, "momentum": 0.9}}}
    return out


def curves(d, specs, epochs):
    """{(was, precision): {metric: {epoch: [a value per finished seed]}}}"""
    there, out = jobs(d), {}
    for (was, precision, _), spec in specs.items():
        j = there.get(spec["name"])
        if not j or j["state"] != "completed":
            continue
        series = d.series(j["id"])
        kind = out.setdefault((was, precision), {})
        for number in NUMBERS:
            for epoch in range(1, epochs + 1):
                if epoch in series.get(number, {}):
                    kind.setdefault(number, {}).setdefault(epoch, []).append(series[number][epoch])
    return out


def compared(found, was):
    """Rows of one kind of training: both precisions and their difference, epoch by epoch. Needs at least two seeds in both."""
    rows = []
    a, b = (found.get((was, p), {}) for p in PRECISIONS)
    for number in NUMBERS:
        for epoch in sorted(set(a.get(number, {})) & set(b.get(number, {}))):
            x, y = a[number][epoch], b[number][epoch]
            n = min(len(x), len(y))
            if n < 2:
                continue
            x, y = x[:n], y[:n]
            mx, my, sx, sy = statistics.mean(x), statistics.mean(y), statistics.stdev(x), statistics.stdev(y)
            bound = T95[2 * (n - 1)] * math.sqrt((sx * sx + sy * sy) / n)
            rows.append({"was": was, "number": number, "epoch": epoch, "seeds": n, "fp32": [mx, sx], "bf16": [my, sy], "difference": my - mx, "bound": bound,
                         "within": abs(my - mx) <= bound})
    return rows


def table(rows, was):
    last = None
    print(f"\n{was}: mean and standard deviation over {min(r['seeds'] for r in rows)} seeds")
    print(f"  {'':14}{'epoch':>5}   {'fp32':^17}   {'bf16':^17}   {'difference':>10}  {'bound':>8}")
    for r in rows:
        print(f"  {r['number'] if r['number'] != last else '':14}{r['epoch']:5}   {r['fp32'][0]:8.4f} ± {r['fp32'][1]:6.4f}   {r['bf16'][0]:8.4f} ± {r['bf16'][1]:6.4f}   "
              f"{r['difference']:+10.4f}  {r['bound']:8.4f}  {'within' if r['within'] else 'beyond'}")
        last = r["number"]


def main():
    a = arguments()
    end = time.monotonic() + a.seconds
    with Kept(a.state) as d:
        if "bf16" not in d.client.get("/v1/capabilities").json["precisions"]:
            raise SystemExit("this processor, or this build, does not compute in bf16")
        try:
            specs = wanted(a, register(d, a.train, a.test))
        except Skip as why:
            raise SystemExit(str(why)) from None
        failed = work(d, specs.values(), end)
        found = curves(d, specs, a.epochs)
    rows = [r for was in a.was for r in compared(found, was)]
    done = sum(len(next(iter(kind["train_loss"].values()))) for kind in found.values())
    inside = sum(r["within"] for r in rows)
    if a.json:
        print(json.dumps({"arch": a.arch, "train": a.train, "test": a.test, "epochs": a.epochs, "batch": a.batch, "lr": a.lr, "seeds": a.seeds,
                          "runs_done": done, "runs": len(specs), "within": inside, "of": len(rows), "rows": rows}))
    else:
        for was in a.was:
            if mine := [r for r in rows if r["was"] == was]:
                table(mine, was)
        print(f"\n{done} of {len(specs)} runs are done. bf16 is within the spread of the seeds in {inside} of {len(rows)} comparisons"
              " (of equal things, about 1 in 20 falls beyond the bound).")
    if failed:
        raise SystemExit(f"jobs that did not complete: {', '.join(failed)}")


main()
