#!/usr/bin/python3
"""What does a rank that grows cost and save? Trains a ResNet-18 of a quarter of its width on photographs of CIFAR-10 through the daemon: dense, with the
strategy inrank, and with ranks that are fixed from the start so that the network multiplies as much as inrank's. Prints each one's accuracy on the test
images after the last epoch, its multiply-adds and weights beside the dense network's, the ranks, and the seconds of its fastest epoch with the product W
(stage 1) and with two layers (stage 2).

--state holds the daemon's data. The run may be interrupted anywhere and goes on when it is started again, also with more seeds:
  tests/bench/inrank.py --state ranks                     # half an hour of one core
  tests/bench/inrank.py --state ranks --seconds 0         # the table of what is there"""
import argparse, json, math, statistics, time

from kept import Kept, add_arguments, jobs, quarter, register, say, work

MIX, BATCH = ".mix", 64


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, default=3000, help="training images")
    p.add_argument("--test", type=int, default=2000, help="test images; none of them decides anything")
    p.add_argument("--epochs", type=int, default=15)
    p.add_argument("--stage", type=int, help="epochs of stage 1; as many as have 130 steps if absent")
    p.add_argument("--buffer", type=int, help="b of the strategy; its default if absent")
    p.add_argument("--threshold", type=float, help="of the strategy; its default if absent")
    p.add_argument("--seeds", type=int, nargs="+", default=[1])
    p.add_argument("--precision", default="fp32")
    p.add_argument("--nice", type=int, default=15, help="niceness of the training process")
    return p.parse_args()


def of_rank(rank, layers):
    """The quarter network with two layers for each of these. layers: {name: outputs}; rank: of a layer, by its name and outputs."""
    out = []
    for layer in quarter()["layers"]:
        name = layer.get("name")
        if name not in layers:
            out.append({**layer, **({"from": [f + MIX if f in layers else f for f in layer["from"]]} if "from" in layer else {})})
            continue
        out += [{**layer, "out": max(1, round(rank(name, layers[name])))}, {"type": "conv", "name": name + MIX, "kernel": 1, "out": layers[name], "bias": False}]
    return {"name": "resnet18-quarter-fixed", "layers": out}


def macs_of(model, classes=10):
    """Multiply-adds for one image of CIFAR-10; of lists like quarter()'s."""
    shape, at, total = {"input": (3, 32)}, "input", 0
    for i, layer in enumerate(model["layers"]):
        c, side = shape[(layer.get("from") or [at])[0]]
        if layer["type"] == "conv":
            side = math.ceil(side / layer.get("stride", 1))
            total += side * side * layer["out"] * c * layer.get("kernel", 3) ** 2
            c = layer["out"]
        elif layer["type"] == "linear":
            total += c * classes
        at = layer.get("name", str(i))
        shape[at] = (c, 1 if layer["type"] == "globalpool" else side)
    return total


def fixed_model(layers, macs):
    """Of at most so many multiply-adds, with one share of the outputs as rank of all these layers."""
    low, high = 0.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        low, high = (share, high) if macs_of(of_rank(lambda name, out: share * out, layers)) <= macs else (low, share)
    return of_rank(lambda name, out: low * out, layers)


def last_checkpoint(d, job):
    return max(d.client.get(f"/v1/jobs/{job['id']}/checkpoints").json["items"], key=lambda k: k["epoch"])["id"]


def layers_of(d, job):
    return d.client.get(f"/v1/checkpoints/{last_checkpoint(d, job)}/layers").json


def second_halves(d, job):
    return {r["name"].removesuffix(MIX): r for r in layers_of(d, job)["layers"] if r["name"].endswith(MIX)}


def spec(name, a, seed, dataset, model, **more):
    return {"name": f"{name}, seed {seed}, {a.epochs} epochs of {a.images}", "dataset": dataset, "model": model, "data": {"val_fraction": 0},
            "train": {"epochs": a.epochs, "batch": BATCH, "seed": seed, "precision": a.precision, "schedule": {"type": "cosine"},
                      "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}},
            "eval": {"every": a.epochs}, "checkpoint": {"every": 5}, "limits": {"nice": a.nice, "threads": 1}, "retry": {"max": 20}, **(more or {"was": False})}


def line(d, name, job):
    s = d.series(job["id"])
    last = lambda metric: s[metric][max(s[metric])]
    return {"arm": name, "job": job["id"], "acc": last("val_acc_aom"), "train_acc": last("train_acc"), "params": layers_of(d, job)["params"], "epoch_s": s["epoch_s"],
            "rank_by_epoch": s.get("inrank_rank")}


def run_seed(d, a, seed, dataset, end):
    """The arms of a seed that are finished, in order."""
    done = []

    def arm(name, model, **more):
        one = spec(name, a, seed, dataset, model, **more)
        work(d, [one], end)
        job = jobs(d).get(one["name"])
        if not job or job["state"] != "completed":
            return None
        halves = second_halves(d, job)
        ranks = {n: r["shape"][1] for n, r in halves.items()}
        layers = {n: r["shape"][0] for n, r in halves.items()}
        done.append({**line(d, name, job), "seed": seed, "macs": macs_of(of_rank(lambda n, _: ranks[n], layers)), "ranks": list(ranks.values())})
        return layers
    if arm("dense", quarter()) is None:
        return done
    options = {k: v for k, v in (("stage", a.stage), ("buffer", a.buffer), ("threshold", a.threshold)) if v}
    name = " ".join(["inrank"] + [f"{k} {options[k]:g}" for k in ("buffer", "threshold") if k in options])
    layers = arm(name, quarter(), weights=[{"type": "inrank", **options}])
    if layers:
        arm(name.replace("inrank", "fixed rank"), fixed_model(layers, done[-1]["macs"]))
    return done


def best(epoch_s, epochs):
    times = [v for e, v in epoch_s.items() if e in epochs]
    return min(times) if times else math.nan


def two_layers(r, a):
    """The epochs of a run that computed with two layers for each factored one: all, or those behind the 130 steps of stage 1."""
    stage = (a.stage or math.ceil(130 / math.ceil(a.images / BATCH))) if r["arm"].startswith("inrank") else 0
    return [e for e in r["epoch_s"] if r["ranks"] and e > stage]


def report(rows, a):
    print("| arm | seed | test accuracy | multiply-adds | weights | mean rank | fastest epoch with W, s | with two layers, s |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        dense = next(q for q in rows if q["arm"] == "dense" and q["seed"] == r["seed"])
        two = two_layers(r, a)
        times = [f"{t:.2f}" if not math.isnan(t) else "" for t in (best(r["epoch_s"], set(r["epoch_s"]) - set(two)), best(r["epoch_s"], two))]
        ranks = f"{statistics.mean(r['ranks']):.1f}" if r["ranks"] else ""
        print(f"| {r['arm']} | {r['seed']} | {100 * r['acc']:.1f} % | {100 * r['macs'] / dense['macs']:.1f} % | {100 * r['params'] / dense['params']:.1f} % | {ranks} | {times[0]} | {times[1]} |")


def main():
    a = arguments()
    end = time.monotonic() + a.seconds
    with Kept(a.state) as d:
        dataset = register(d, a.images, a.test)
        rows = [r for seed in a.seeds for r in run_seed(d, a, seed, dataset, end)]
    if a.json:
        print(json.dumps(rows))
    else:
        report(rows, a)
    say("finished" if len(rows) == 3 * len(a.seeds) else "not finished")


if __name__ == "__main__":
    main()
