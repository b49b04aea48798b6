#!/usr/bin/python3
"""What lies between two networks? Trains ResNet-18 networks of a quarter of the width on photographs of CIFAR-10 through the daemon: two from
different initial values, and two that go on from the first of them. Then merges each pair without alignment, by weights and by activations, and
prints loss and accuracy along the path and the barrier (web/docs/merge.md). May be interrupted and started again.

    tests/bench/merge.py --state DIR [--train 3000] [--held 1000] [--side 32] [--epochs 5]"""
import argparse, json, sys, time

from kept import Kept, add_arguments, jobs, quarter, say, work
from lib import cifar_subset, tar

ALIGNS = ("none", "weights", "activations")
POINTS = 5


def spec(name, dataset, seed, epochs, lr, held, **more):
    return {"name": name, "dataset": dataset, "model": quarter(), "was": False, "data": {"val_fraction": held, "split": {"seed": 1}},
            "train": {"epochs": epochs, "batch": 64, "seed": seed, "optimizer": {"type": "sgd", "lr": lr, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
                      "schedule": {"type": "cosine"}}, **more}


def photographs(d, images, side):
    """The first photographs of every class, as the data set of the daemon; side below 32: made smaller."""
    name = f"cifar-{images}-{side}"
    if d.client.get(f"/v1/datasets/{name}", want=(200, 404)).status == 404:
        say(f"reading {images} photographs")
        d.client.put(f"/v1/datasets/{name}" + (f"?size={side}" if side != 32 else ""), tar(cifar_subset(images, 100)))
    d.wait_dataset(name)
    return name


def merge(d, pair, align):
    """One that is there already, or a new one, to its end."""
    for m in d.client.get("/v1/merges").json["items"]:
        if m["checkpoints"] == pair and m["request"]["align"] == align:
            break
    else:
        m = d.client.post("/v1/checkpoints:merge", {"checkpoints": pair, "align": align, "path": POINTS}).json
    while m["state"] in ("queued", "running"):
        m = d.client.get(f"/v1/merges/{m['id']}?wait=60s").json
    if m["state"] == "failed":
        raise SystemExit(f"merge {m['id']}: {m['message']}")
    return m["merge"]


def row(name, align, m):
    path = m["path"]
    inner = f"{m['inner'][0][0]:.0f} -> {m['inner'][0][1]:.0f}" if m["inner"] else ""
    return f"| {name} | {align} | " + " | ".join(f"{100 * p['accuracy']:.1f} / {p['loss']:.3f}" for p in path) + f" | {m['barrier']:.3f} | {inner} |"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(p)
    p.add_argument("--train", type=int, default=3000, help="training images")
    p.add_argument("--held", type=int, default=1000, help="images held out, on which the paths are measured")
    p.add_argument("--side", type=int, default=32, help="pixels of a side; the photographs have 32")
    p.add_argument("--epochs", type=int, default=5)
    o = p.parse_args()
    end = time.monotonic() + o.seconds
    with Kept(o.state) as d:
        data, held = photographs(d, o.train + o.held, o.side), o.held / (o.train + o.held)
        first = [spec(f"seed {s}", data, s, o.epochs, 0.1, held) for s in (0, 1)]
        if work(d, first, end):
            sys.exit("a job has failed")
        best = {name: j["best"]["checkpoint"] for name, j in jobs(d).items() if j.get("best")}
        tuned = [spec(f"on from seed 0, seed {s}", data, s, max(1, o.epochs // 2), 0.05, held, init_from={"checkpoint": best["seed 0"]}) for s in (2, 3)]
        if work(d, tuned, end):
            sys.exit("a job has failed")
        best = {name: j["best"]["checkpoint"] for name, j in jobs(d).items() if j.get("best")}
        found = {}
        for title, names in (("two initial values", first), ("one origin", tuned)):
            for align in ALIGNS:
                say(f"{title}, align {align}")
                found[f"{title}: {align}"] = merge(d, [best[s["name"]] for s in names], align)
    if o.json:
        print(json.dumps(found))
        return
    print(f"{o.train} training images of {o.side} x {o.side}, {o.held} held out, {o.epochs} epochs; accuracy in % / loss at lambda, the share of the first network\n")
    print("| Pair | `align` | " + " | ".join(f"λ = {i / (POINTS - 1):g}" for i in range(POINTS)) + " | Barrier | Inner product |")
    print("| --- | --- | " + "--- | " * POINTS + "--- | --- |")
    for key, m in found.items():
        print(row(*key.split(": "), m))


if __name__ == "__main__":
    main()
