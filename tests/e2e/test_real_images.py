#!/usr/bin/python3
"""Photographs: one PUT uploads 3,000 + 1,000 CIFAR-10 images; LeNet, and ResNet-18 with and without WAS, learn from them."""
import os

from lib import Daemon, SHARED, Skip, SANITIZED, case, check, cifar_subset, equal, finish, tar

LOSSES = ("train_loss", "val_loss_aom", "val_loss_dom")


def curve(values):
    return " ".join(f"{v:.3f}" for _, v in sorted(values.items()))


def learned(d, job, floor):
    done = d.wait_job(job["id"], timeout=600)
    s = d.series(job["id"])
    first, last = min(s["train_loss"]), max(s["train_loss"])
    print(f"# {job['name']}: loss {curve(s['train_loss'])}; AOM {curve(s['val_acc_aom'])}; DOM {curve(s.get('val_acc_dom', {}))}; {s['images_per_s'][last]:.0f} img/s")
    check(s["train_loss"][last] < s["train_loss"][first], f"training loss fell: {s['train_loss']}")
    check(max(s["val_acc_aom"].values()) > floor, f"AOM accuracy above {floor}: {s['val_acc_aom']}")
    for name in LOSSES[:2]:
        equal(len(s[name]), done["train"]["epochs"], name)
    return s


def run(d):
    with case("CIFAR-10 photographs are uploaded as one archive"):
        archive = tar(cifar_subset(3000, 1000))
        d.client.put("/v1/datasets/cifar-small", archive, want=(200, 201, 202))
        info = d.wait_dataset("cifar-small")
        equal((info["train"], info["test"], info["shape"]), (3000, 1000, [3, 32, 32]))
        equal(sorted(info["classes"]), ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])
        check(all(0.3 < m < 0.6 for m in info["mean"]), f"channel means {info['mean']}")

    with case("the same bytes again give the same version"):
        again = d.client.put("/v1/datasets/cifar-small", archive, want=200).json
        equal(again["version"], info["version"])

    with case("the whole published archive is read"):
        with open(os.path.join(SHARED, "data", "cifar10-images.tar.gz"), "rb") as f:
            d.client.put("/v1/datasets/cifar10", f.read(), want=(200, 201, 202))
        info = d.wait_dataset("cifar10")
        equal((info["train"], info["test"], len(info["classes"])), (50000, 10000, 10))

    with case("LeNet learns"):
        learned(d, d.submit(name="lenet", dataset="cifar-small", model={"arch": "lenet"},
                            train={"epochs": 6, "batch": 32, "seed": 1, "optimizer": {"type": "adamw", "lr": 0.001}}), 0.2)

    pair = {}
    for name, was in (("resnet18-was", None), ("resnet18-plain", False)):
        with case(f"{name} learns"):
            spec = dict(name=name, dataset="cifar-small", model={"arch": "resnet18"}, data={"limit": 1500, "val_fraction": 0},    # judged by the 1,000 test images
                        train={"epochs": 2, "batch": 25, "seed": 1, "optimizer": {"type": "sgd", "lr": 0.02}}, checkpoint={"every": 2})
            job = d.submit(**spec, **({} if was is None else {"was": was}))
            pair[name] = learned(d, job, 0.15)
            equal(d.client.get(f"/v1/jobs/{job['id']}").json["was"] is False, was is False)

    with case("both modes are measured if the network has two"):
        check(set(pair) == {"resnet18-was", "resnet18-plain"}, f"both jobs ended: {sorted(pair)}")
        equal(len(pair["resnet18-was"]["val_acc_dom"]), 2)
        check(max(pair["resnet18-was"]["val_acc_dom"].values()) > 0.1, pair["resnet18-was"]["val_acc_dom"])
        check("val_acc_dom" not in pair["resnet18-plain"], "a plain job has no second mode")


try:
    if SANITIZED:
        raise Skip("training a ResNet-18 under a sanitizer takes too long")
    cifar_subset(10, 10)
except Skip as why:
    print(f"skip real images: {why}")
else:
    with Daemon() as daemon:
        run(daemon)
finish()
