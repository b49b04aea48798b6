#!/usr/bin/python3
"""When does WAS pay off? Trains networks on few real photographs of CIFAR-10, plain and with WAS, each with and without image augmentation, with WAS
in only half of the draws, and with the layers' alpha fixed at 1, through the daemon's API. The epoch with the best accuracy of AOM on the held-out
images counts; the table has the test accuracy of AOM and DOM in that epoch, and the final results on the held-out images.

The daemon keeps everything in --state, so the run may be interrupted anywhere (--seconds, Ctrl-C, SIGTERM, even kill -9 of script or daemon) and
continues when it is started again. During a run, a second one with --seconds 0 prints the table so far:
  tests/bench/when_was_pays.py --state when                                       # all of it: days on two cores
  tests/bench/when_was_pays.py --state when --images 2000 --epochs 30 --test 2000 # a smaller version: hours
  tests/bench/when_was_pays.py --state when --seconds 0                           # the results so far"""
import argparse, json, statistics, time

from kept import Kept, add_arguments, dataset_name, jobs, register, work
from lib import Skip

MIX = {"transforms": [{"type": "translate", "x": 0.3, "y": 0.3, "weight": 1}, {"type": "resized_crop", "scale": [0.8, 1.0], "ratio": [0.75, 1.3333], "weight": 1}]}
FLIP_CROP = ["flip", "crop"]
SETTINGS = {                                  # name: "was", "augment"
    "plain": (False, []),
    "WAS": ({**MIX, "probability": 1}, []),
    "plain, flip/crop": (False, FLIP_CROP),
    "WAS, flip/crop": ({**MIX, "probability": 1}, FLIP_CROP),
    "WAS in half": ({**MIX, "probability": 0.5}, []),
    "WAS, alpha 1": ({**MIX, "probability": 1, "alpha": "fixed"}, []),
    "WAS in half, alpha 1": ({**MIX, "probability": 0.5, "alpha": "fixed"}, []),
    "WAS in half, alpha 1, flip/crop": ({**MIX, "probability": 0.5, "alpha": "fixed"}, FLIP_CROP),
}
NUMBERS = {"test_acc_aom": "test AOM", "test_acc_dom": "test DOM", "dom_share": "DOM's MACs", "last_val_aom": "last val. AOM", "last_val_dom": "last val. DOM"}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, nargs="+", default=[2000, 10000], help="training images, including the held-out tenth")
    p.add_argument("--test", type=int, default=10000, help="test images")
    p.add_argument("--arch", nargs="+", default=["resnet18", "vgg16"])
    p.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    p.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    p.add_argument("--epochs", type=int, default=200)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=0.05, help="rate of SGD with momentum 0.9, with a cosine schedule")
    p.add_argument("--warmup", type=float, default=2, help="warm-up epochs")
    p.add_argument("--eval-every", type=int, default=1, help="epochs between evaluations, among which the best is chosen")
    p.add_argument("--precision", default="bf16")
    return p.parse_args()


def wanted(a):
    """{(images, arch, setting, seed): spec}, the most useful ones first. The name contains everything that matters."""
    out = {}
    for images in a.images:
        for seed in a.seeds:
            for arch in a.arch:
                for setting in a.settings:
                    was, augment = SETTINGS[setting]
                    dataset, kind = dataset_name(images, a.test), setting.lower().replace(", ", "-").replace(" ", "-").replace("/", "-")
                    out[images, arch, setting, seed] = {
                        "name": f"{arch}-{kind}-seed{seed}-e{a.epochs}-b{a.batch}-lr{a.lr:g}-w{a.warmup:g}-v{a.eval_every}-{a.precision}-{dataset}", "dataset": dataset,
                        "model": {"arch": arch}, "was": was, "data": {"val_fraction": 0.1}, "eval": {"test": "best", "every": a.eval_every},
                        "checkpoint": {"every": 5}, "limits": {"nice": 19}, "retry": {"max": 20},
                        "train": {"epochs": a.epochs, "batch": a.batch, "seed": seed, "precision": a.precision, "augment": augment,
                                  "optimizer": {"type": "sgd", "lr": a.lr, "momentum": 0.9}, "schedule": {"type": "cosine", "warmup_epochs": a.warmup}}}
    return out


def register_all(d, a, end):
    for images in a.images:
        if time.monotonic() < end:
            register(d, images, a.test)


def dom_share(d, job):
    """Multiply-adds of DOM, which is one recorded draw, as a share of AOM's."""
    info = d.client.get(f"/v1/checkpoints/{job['best']['checkpoint']}").json["info"]
    return info["macs"]["dom"] / info["macs"]["aom"]


def outcome(series):
    """Results of a finished job: the epoch chosen on the held-out images (the first of equal ones, as in the trainer), its test accuracy, the final results."""
    val = series["val_acc_aom"]
    best, last = max(sorted(val), key=val.get), max(val)
    out = {"epoch": best, "val_acc_aom": val[best], "last_val_aom": val[last], "epoch_s": statistics.median(series["epoch_s"].values())}
    for number in ("test_acc_aom", "test_acc_dom"):
        if number in series:
            out[number] = series[number][best]
    if "val_acc_dom" in series:
        out["last_val_dom"] = series["val_acc_dom"][last]
    return out


def report(d, specs, a):
    """A row for each (images, arch, setting): the finished seeds, and the missing ones."""
    there, rows = jobs(d), []
    for images in a.images:
        for arch in a.arch:
            for setting in a.settings:
                row = {"images": images, "arch": arch, "setting": setting, "seeds": {}, "missing": []}
                rows.append(row)
                for seed in a.seeds:
                    j = there.get(specs[images, arch, setting, seed]["name"])
                    if j and j["state"] == "completed":
                        row["seeds"][seed] = outcome(d.series(j["id"]))
                        if specs[images, arch, setting, seed]["was"]:
                            row["seeds"][seed]["dom_share"] = dom_share(d, j)
                    else:
                        at = (j or {}).get("progress") or {}
                        row["missing"].append(f"seed {seed}: {j['state'] if j else 'not asked for'}" + (f", epoch {at['epoch']}" if at.get("epoch") else ""))
    return rows


def spread(values):
    """Accuracies in per cent: their mean and, if there are several, the lowest and the highest."""
    if not values:
        return "–"
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f}–{100 * max(values):.1f})"


def table(rows, a):
    images, arch = rows[0]["images"], rows[0]["arch"]
    print(f"\n{arch}, {images} images ({images // 10} of them held out), {a.test} test images, {a.epochs} epochs of batches of {a.batch}, rate {a.lr:g}, {a.precision}\n")
    print(f"| setting | seeds | {' | '.join(NUMBERS.values())} | chosen epoch | s/epoch |\n|---|---|{'---|' * len(NUMBERS)}---|---|")
    for r in rows:
        done = list(r["seeds"].values())
        cells = [spread([o[n] for o in done if n in o]) for n in NUMBERS]
        print(f"| {r['setting']} | {', '.join(map(str, r['seeds'])) or '–'} | {' | '.join(cells)} | {', '.join(str(o['epoch']) for o in done) or '–'} | "
              f"{', '.join(format(o['epoch_s'], '.1f') for o in done) or '–'} |")
    missing = [f"{r['setting']} {m}" for r in rows for m in r["missing"]]
    print(f"\nmissing: {'; '.join(missing) or 'nothing'}")


def main():
    a = arguments()
    end = time.monotonic() + a.seconds
    specs = wanted(a)
    with Kept(a.state) as d:
        try:
            register_all(d, a, end)
        except Skip as why:
            raise SystemExit(str(why)) from None
        failed = work(d, specs.values(), end)
        rows = report(d, specs, a)
    if a.json:
        print(json.dumps({"test": a.test, "epochs": a.epochs, "batch": a.batch, "lr": a.lr, "warmup": a.warmup, "precision": a.precision, "rows": rows}))
    else:
        for images in a.images:
            for arch in a.arch:
                table([r for r in rows if (r["images"], r["arch"]) == (images, arch)], a)
    if failed:
        raise SystemExit(f"jobs that did not complete: {', '.join(failed)}")


main()
