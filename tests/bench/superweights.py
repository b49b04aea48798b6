#!/usr/bin/python3
"""What does sharing weights cost? Trains a ResNet-18 of a quarter of its width on photographs of CIFAR-10 through the daemon: plain, with SuperWeights at several
budgets, and narrower networks with as many parameters, and prints accuracies on the test images after the last epoch beside what the files weigh.

--state holds the daemon's data and results.jsonl (a line for every finished job). The run may be interrupted anywhere and goes on when it is started again:
  tests/bench/superweights.py --state sw                                  # some minutes for every arm and seed
  tests/bench/superweights.py --state sw --epochs 20 --seeds 1 2 3
  tests/bench/superweights.py --state sw --seconds 0                      # the table of what is there"""
import argparse, json, os, statistics, time

from kept import Kept, add_arguments, jobs, quarter, register, say, work
from lib import Skip, safetensors

BANKS = ("weights.superweights.bank", "weights.superweights.coeff", "weights.superweights.cluster")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, default=3000, help="training images")
    p.add_argument("--test", type=int, default=2000, help="test images; none of them decides anything")
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    p.add_argument("--only", nargs="+", help="only these arms")
    p.add_argument("--precision", default="bf16")
    p.add_argument("--nice", type=int, default=15, help="niceness of the training process")
    return p.parse_args()


def arms(a):
    shared = lambda budget, **more: {"weights": [{"type": "superweights", "budget": budget, "search_epochs": 0, **more}]}
    narrow = lambda share: {"model": quarter([round(c * share ** 0.5) for c in (16, 32, 64, 128)], f"resnet18-{round(100 * share)}"), "precision": "fp32"}    # in bf16, 25 channels are slow
    rows = {"dense": {}, "shared, 60 %": shared(0.6), "narrower, 60 %": narrow(0.6), "shared, 40 %": shared(0.4), "narrower, 40 %": narrow(0.4), "shared, 100 %": shared(1),
            "shared, 60 %, searched": shared(0.6, search_epochs=max(1, a.epochs // 5)), "shared, 60 %, wide": shared(0.6, init="wide"), "shared, 40 %, 2 bins": shared(0.4, bins=2)}
    return {name: more for name, more in rows.items() if not a.only or name in a.only}


def spec_of(name, more, seed, a, dataset):
    train = {"epochs": a.epochs, "batch": 64, "seed": seed, "precision": more.get("precision", a.precision), "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
             "schedule": {"type": "cosine"}}
    spec = {"dataset": dataset, "model": more.get("model") or quarter(), "data": {"val_fraction": 0}, "train": train, "eval": {"every": a.epochs}, "checkpoint": {"every": 5},
            "limits": {"nice": a.nice, "threads": 1}, "retry": {"max": 20}}
    return {"name": f"{name}, {a.epochs} epochs, seed {seed}", **spec, **({"weights": more["weights"]} if "weights" in more else {"was": False})}


def weights_bytes(tensors):
    """Of the parameters, banks and coefficients: what inference needs, without statistics."""
    needed = lambda n: n in BANKS or not (n.startswith(("weights.", "optim.", "state.", "train.")) or ".running_" in n)
    return sum(len(data) for name, (_, _, data) in tensors.items() if needed(name))


def measured(d, name, seed, job):
    s = d.series(job["id"])
    last = lambda n: s[n][max(s[n])] if n in s else None
    items = d.client.get(f"/v1/jobs/{job['id']}/checkpoints").json["items"]
    body = d.client.get(f"/v1/checkpoints/{max(items, key=lambda k: k['epoch'])['id']}/file?format=wasd").body
    _, tensors = safetensors(body)
    return {"arm": name, "seed": seed, "name": job["name"], "acc": last("val_acc_aom"), "train_acc": last("train_acc"), "loss": last("val_loss_aom"), "clusters": last("superweights_clusters"),
            "share": last("superweights_share"), "bytes": weights_bytes(tensors), "file": len(body), "epoch_s": statistics.median(s["epoch_s"].values())}


def results(a):
    """{job name: its line}; a line that was cut short does not count."""
    out = {}
    if os.path.exists(path(a)):
        for line in open(path(a)):
            try:
                r = json.loads(line)
                out[r["name"]] = r
            except ValueError:
                pass
    return out


def path(a):
    return os.path.join(a.state, "results.jsonl")


def run(d, a, end):
    dataset = register(d, a.images, a.test)
    for seed in a.seeds:
        for name, more in arms(a).items():
            spec = spec_of(name, more, seed, a, dataset)
            if spec["name"] in results(a):
                continue
            work(d, [spec], end)
            job = jobs(d).get(spec["name"])
            if not job or job["state"] not in ("completed", "failed"):
                return
            if job["state"] == "completed":
                with open(path(a), "a") as f:
                    f.write(json.dumps(measured(d, name, seed, job)) + "\n")


def report(a):
    there, base = results(a), None
    if a.json:
        print(json.dumps(list(there.values())))
        return
    print(f"{a.images} training and {a.test} test images, {a.epochs} epochs of batches of 64, {a.precision}; accuracies in per cent after the last epoch\n")
    print("| arm | test | each seed | loss | training | clusters | weights, bytes | of dense | checkpoint, bytes | of dense | s an epoch |\n|---|---|---|---|---|---|---|---|---|---|---|")
    for name in arms(a):
        r = [x for x in there.values() if x["arm"] == name and x["seed"] in a.seeds and f", {a.epochs} epochs," in x["name"]]
        if not r:
            continue
        base = base or r[0]
        mean = lambda n: statistics.mean(x[n] for x in r)
        each = ", ".join(f"{100 * x['acc']:.1f}" for x in r)
        print(f"| {name} | {100 * mean('acc'):.1f} | {each} | {mean('loss'):.3f} | {100 * mean('train_acc'):.1f} | {r[0]['clusters'] or ''} | "
              f"{r[0]['bytes']} | {100 * r[0]['bytes'] / base['bytes']:.1f} % | {r[0]['file']} | {100 * r[0]['file'] / base['file']:.1f} % | {mean('epoch_s'):.1f} |")


def main():
    a = arguments()
    os.makedirs(a.state, exist_ok=True)
    if a.seconds > 0:
        with Kept(a.state) as d:
            try:
                run(d, a, time.monotonic() + a.seconds)
            except Skip as why:
                say(f"skipped: {why}")
    report(a)


if __name__ == "__main__":
    main()
