#!/usr/bin/python3
"""What does int8 cost in accuracy? Trains ResNet-18 on all photographs of CIFAR-10 through the daemon, makes an int8 mode by each way to find ranges, and classifies
the 10,000 test images in every mode through HTTP: accuracy, its difference from the float weights with the standard error of the images that changed, and how many images
keep their class.

Must hold: every mode within 0.5 points of the float weights.

--state holds the daemon's data; the run may be interrupted and goes on when it is started again:
  tests/bench/int8_accuracy.py --state int8              # hours of one core; about an hour of a quiet machine with --threads 2
  tests/bench/int8_accuracy.py --state int8 --job NAME   # judges the best checkpoint of a job that is there"""
import argparse, base64, json, math, os, sys

from kept import Kept, add_arguments, cifar_subset, register, say, work

RANGES = ("minmax", "kl", "kl-clip")
TOGETHER = 100


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--job", help="judge this job instead of training one")
    p.add_argument("--images", type=int, default=50000, help="training images")
    p.add_argument("--test", type=int, default=10000)
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--nice", type=int, default=10)
    return p.parse_args()


def trained(d, a):
    if not a.job:
        a.job = f"int8-accuracy-{a.images}-{a.epochs}"
        spec = {"dataset": register(d, a.images, a.test), "name": a.job, "was": False, "limits": {"nice": a.nice, "threads": a.threads}, "model": {"arch": "resnet18"}, "data": {"val_fraction": 0.04},
                "train": {"epochs": a.epochs, "batch": 64, "seed": 1, "precision": "bf16", "augment": ["flip", "crop"], "optimizer": {"type": "sgd", "lr": 0.05, "weight_decay": 0.0005},
                          "schedule": {"type": "cosine", "warmup_epochs": 0.5}}}
        work(d, [spec], math.inf)
    job = next(j for j in d.client.get("/v1/jobs?limit=500").json["items"] if j["name"] == a.job)
    return d.wait_job(job["id"], timeout=36000)


def made(d, checkpoint, ranges):
    path = f"/v1/checkpoints/{checkpoint}/modes"
    name = d.client.post(path, {"desire": "int8", "activations": ranges}, want=(200, 202)).json["name"]
    while True:
        mode = d.client.get(f"{path}/{name}?wait=30s", want=200).json
        if mode["state"] == "failed":
            raise SystemExit(f"{name}: {mode['message']}")
        if mode["state"] == "ready":
            return name


def classes(d, mode, images):
    out = []
    for i in range(0, len(images), TOGETHER):
        body = {"images": [base64.b64encode(data).decode() for _, data in images[i:i + TOGETHER]]}
        out += [r["top"][0]["label"] for r in d.client.post(f"/v1/deployments/int8/classify?k=1&mode={mode}", body, want=200).json["results"]]
        say(f"{mode}: {len(out)} images") if len(out) % 2000 == 0 else None
    return out


def main():
    a = arguments()
    os.makedirs(a.state, exist_ok=True)
    images = [(name, data) for name, data in cifar_subset(10, a.test) if "test/" in name]
    truth = [name.split("/")[-2] for name, _ in images]
    with Kept(a.state) as d:
        job = trained(d, a)
        modes = ["aom", *(made(d, job["best"]["checkpoint"], ranges) for ranges in RANGES)]
        d.client.delete("/v1/deployments/int8", want=(202, 204, 404))    # of a run that was interrupted
        d.deploy("int8", job["id"])
        said = {mode: classes(d, mode, images) for mode in modes}
        measured = {m["name"]: m for m in d.client.get(f"/v1/checkpoints/{job['best']['checkpoint']}/modes").json["items"]}
        d.client.delete("/v1/deployments/int8")
    rows, missed = [], 0
    for mode in modes:
        right = [x == y for x, y in zip(said[mode], truth)]
        gained = sum(x and not y for x, y in zip(right, [x == y for x, y in zip(said["aom"], truth)]))
        lost = gained - sum(right) + sum(x == y for x, y in zip(said["aom"], truth))
        drop = 100 * (lost - gained) / len(truth)
        missed += drop > 0.5
        rows.append({"mode": mode, "accuracy": sum(right) / len(truth), "drop_points": drop, "standard_error": 100 * math.sqrt(gained + lost) / len(truth),
                     "same": sum(x == y for x, y in zip(said[mode], said["aom"])) / len(truth), "bytes": measured[mode]["bytes"]})
    if a.json:
        print(json.dumps(rows))
    else:
        print(f"{a.job}: {len(truth)} test images\n\n| Mode | Accuracy, % | Points lost | Same class as aom, % | Bytes of weights |\n| --- | ---: | ---: | ---: | ---: |")
        for r in rows:
            print(f"| {r['mode']} | {100 * r['accuracy']:.2f} | {r['drop_points']:+.2f} ± {r['standard_error']:.2f} | {100 * r['same']:.2f} | {r['bytes']} |")
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
