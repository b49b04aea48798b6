#!/usr/bin/python3
"""What do augmentations bring on few real photographs? Trains one plain network on photographs of CIFAR-10 with each list of augmentations, through the
daemon's API, and prints the accuracy in the epoch that the held-out images choose.

The daemon keeps everything in --state, so the run may be interrupted anywhere and continues when it is started again:
  tests/bench/augment.py --state aug                                   # minutes per row on two cores
  tests/bench/augment.py --state aug --images 2000 --epochs 10         # a smaller version
  tests/bench/augment.py --state aug --seconds 0                       # the results so far"""
import argparse, json, statistics, time

from kept import Kept, add_arguments, jobs, register, work
from lib import Skip

BASE = ["flip", "crop"]
SETTINGS = {
    "none": [],
    "flip + crop": BASE,
    "flip + crop + cutout": BASE + [{"type": "cutout", "size": 8}],
    "flip + crop + color_jitter": BASE + ["color_jitter"],
    "flip + crop + randaugment": BASE + ["randaugment"],
    "flip + crop + mixup": BASE + ["mixup"],
    "flip + crop + cutmix": BASE + ["cutmix"],
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, default=5000, help="training images, including the held-out tenth")
    p.add_argument("--test", type=int, default=2000, help="test images")
    p.add_argument("--arch", default="resnet18")
    p.add_argument("--epochs", type=int, default=30)
    p.add_argument("--seeds", type=int, nargs="+", default=[1])
    p.add_argument("--precision", default="bf16")
    p.add_argument("--normalize", default="half", choices=["half", "set"])
    return p.parse_args()


def wanted(a, dataset):
    """{(setting, seed): spec}"""
    out = {}
    for seed in a.seeds:
        for setting, augment in SETTINGS.items():
            name = f"{setting.replace(' + ', '-')}-{a.arch}-{a.normalize}-seed{seed}-e{a.epochs}-{a.precision}-{dataset}"
            out[setting, seed] = {"name": name, "dataset": dataset, "model": {"arch": a.arch}, "was": False,
                                  "data": {"val_fraction": 0.1, "normalize": a.normalize, "split": {"seed": 1}}, "checkpoint": {"every": 5},
                                  "train": {"epochs": a.epochs, "batch": 64, "seed": seed, "precision": a.precision, "augment": augment,
                                            "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9}, "schedule": {"type": "cosine", "warmup_epochs": 1}}}
    return out


def result(d, job):
    """Of the epoch that the held-out images choose, in per cent; and images per second."""
    s = d.series(job["id"])
    epoch = max(sorted(s["val_acc_aom"]), key=s["val_acc_aom"].get)
    return {"epoch": epoch, "train": 100 * s["train_acc"][epoch], "val": 100 * s["val_acc_aom"][epoch], "test": 100 * s["test_acc_aom"][epoch],
            "images_per_s": statistics.median(s["images_per_s"].values())}


def report(rows):
    print("| augmentation | seeds | epoch | training | held out | test | images/s |\n|---|---|---|---|---|---|---|")
    for setting in SETTINGS:
        got = [r for (name, _), r in rows.items() if name == setting]
        if got:
            mean = {k: statistics.mean(r[k] for r in got) for k in got[0]}
            print(f"| {setting} | {len(got)} | {mean['epoch']:.0f} | {mean['train']:.1f} % | {mean['val']:.1f} % | {mean['test']:.1f} % | {mean['images_per_s']:.0f} |")


def main():
    a = arguments()
    end = time.monotonic() + a.seconds
    with Kept(a.state) as d:
        try:
            specs = wanted(a, register(d, a.images, a.test))
        except Skip as why:
            raise SystemExit(str(why)) from None
        work(d, list(specs.values()), end)
        there = jobs(d)
        done = {k: there[s["name"]] for k, s in specs.items() if there.get(s["name"], {}).get("state") == "completed"}
        rows = {k: result(d, job) for k, job in done.items()}
    if a.json:
        print(json.dumps([{"setting": k[0], "seed": k[1], **r} for k, r in rows.items()]))
    else:
        report(rows)


if __name__ == "__main__":
    main()
