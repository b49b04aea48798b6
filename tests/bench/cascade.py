#!/usr/bin/python3
"""A cascade on photographs. A ResNet-18 of a quarter of its width is trained with WAS on CIFAR-10 through the daemon; profiles are searched for a few
budgets of multiply-adds, and the threshold of a cascade with each of them is tuned on the validation images for --keep of AOM's accuracy. Then all
test images are classified by AOM, by each profile and by each cascade. Accuracies and mean multiply-adds are those of the answers.

The daemon keeps everything in --state, so the run may be interrupted anywhere and continues when it is started again:
  tests/bench/cascade.py --state cascade                   # about 15 minutes on two cores with AVX-512
  tests/bench/cascade.py --state cascade --curves          # also the whole curves
"""
import argparse, base64, json, time

from kept import Kept, add_arguments, quarter, register, say, work
from lib import cifar_subset


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, default=20000, help="training images, including the held-out tenth")
    p.add_argument("--test", type=int, default=5000)
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--budgets", type=float, nargs="+", default=[0.75, 0.6, 0.5])
    p.add_argument("--keep", type=float, default=0.99)
    p.add_argument("--evaluations", type=int, default=120)
    p.add_argument("--nice", type=int, default=10)
    p.add_argument("--curves", action="store_true")
    return p.parse_args()


def spec(a, dataset):
    return {"name": f"cascade-{a.images}-{a.epochs}", "dataset": dataset, "model": quarter(),
            "was": {"layers": "all", "alpha": "fixed", "probability": 0.5, "transforms": [{"type": "translate", "x": 0.3, "y": 0.3, "weight": 1}]},
            "data": {"val_fraction": 0.1}, "eval": {"test": "best"}, "checkpoint": {"every": 1}, "limits": {"nice": a.nice},
            "train": {"epochs": a.epochs, "batch": 64, "seed": 1, "augment": ["flip", "crop"], "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9},
                      "schedule": {"type": "cosine", "warmup_epochs": 1}}}


def classify(d, images, query=""):
    """(right answers, images, multiply-adds, repeated) of all test images, 64 in each request."""
    right = macs = repeated = 0
    for i in range(0, len(images), 64):
        part = images[i:i + 64]
        a = d.client.post(f"/v1/deployments/cascade/classify?k=1{query}", {"images": [png for _, png in part]}, want=200).json
        right += sum(r["top"][0]["label"] == label for (label, _), r in zip(part, a["results"]))
        macs += a["macs"] * len(part)
        repeated += len(a.get("repeated") or [])
    return {"accuracy": right / len(images), "macs": macs / len(images), "repeated": repeated / len(images)}


def test_images(a):
    """[(label, base64 of the PNG)] of the test images that were registered."""
    out = []
    for name, data in cifar_subset(a.images, a.test):
        split, label = name.removeprefix("./").split("/")[:2]
        if split == "test":
            out.append((label, base64.b64encode(data).decode()))
    return out


def tuned(d, cheap, keep):
    url = "/v1/deployments/cascade/traffic"
    now = d.client.get(url).json
    if not (now["tuned"] and now["tuned"]["cheap"] == cheap and now["tuned"]["keep"] == keep and now["cascade"]):
        d.client.post("/v1/deployments/cascade/cascade:tune", {"cheap": cheap, "keep": keep}, want=202)
    for _ in range(60):
        now = d.client.get(url + "?wait=60s").json
        if now["tuned"] and now["tuned"]["cheap"] == cheap:
            return now["tuned"]
    raise SystemExit(f"{cheap} is not tuned: {now}")


def main():
    a = arguments()
    end = time.monotonic() + a.seconds
    with Kept(a.state) as d:
        dataset = register(d, a.images, a.test)
        if work(d, [spec(a, dataset)], end):
            raise SystemExit("the training failed")
        job = next((j for j in d.client.get("/v1/jobs?limit=500").json["items"] if j["name"] == f"cascade-{a.images}-{a.epochs}" and j["state"] == "completed"), None)
        if not job:
            raise SystemExit("the training has not ended yet; start again to go on")
        if d.client.get("/v1/deployments/cascade", want=(200, 404)).status == 404:
            d.client.post("/v1/deployments", {"name": "cascade", "source": {"job": job["id"], "follow": "best"}})
        checkpoint = d.wait_deployment("cascade")["checkpoint"]
        for b in a.budgets:
            path = f"/v1/checkpoints/{checkpoint}/profiles"
            if d.client.get(f"{path}/b{b * 100:.0f}", want=(200, 404)).status == 404:
                d.client.post(path, {"name": f"b{b * 100:.0f}", "desire": "macs", "budget": b, "evaluations": a.evaluations})
        for b in a.budgets:
            while (p := d.client.get(f"/v1/checkpoints/{checkpoint}/profiles/b{b * 100:.0f}?wait=100s").json)["state"] not in ("ready", "failed"):
                pass
            say(f"profile b{b * 100:.0f}: {p['state']} {p.get('val_acc')}")
        cheaps = [f"dom:b{b * 100:.0f}" for b in a.budgets]
        while not set(cheaps) <= set(d.client.get("/v1/deployments/cascade/mode").json["bundles"]):
            time.sleep(0.5)
        images = test_images(a)
        aom = classify(d, images, "&mode=aom")
        say(f"aom: {aom}")
        rows = []
        for cheap in cheaps:
            t = tuned(d, cheap, a.keep)
            d.client.put("/v1/deployments/cascade/mode", {"mode": "cascade"})
            rows.append({"cheap": cheap, "threshold": t["threshold"], "validation": {"kept": t["accuracy"]["cascade"] / t["accuracy"]["aom"], "repeated": t["repeated"],
                                                                                     "macs": t["macs"]["mean"] / t["macs"]["aom"]},
                         "alone": classify(d, images, f"&mode={cheap}"), "cascade": classify(d, images), "curve": t["curve"], "aom_macs": t["macs"]["aom"],
                         "aom_val": t["accuracy"]["aom"]})
            say(f"{cheap}: {({k: v for k, v in rows[-1].items() if k != 'curve'})}")
            d.client.put("/v1/deployments/cascade/mode", {"mode": "aom"})
    if a.json:
        print(json.dumps({"aom": aom, "images": len(images), "rows": rows}))
        return
    print(f"AOM: {aom['accuracy'] * 100:.2f} % of {len(images)} test images, {aom['macs'] / 1e6:.1f} million multiply-adds\n")
    print("| cheap mode | its multiply-adds | its accuracy | threshold | repeated | cascade: accuracy | of AOM's | mean multiply-adds of AOM's | foreseen on validation images |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for r in rows:
        c, v = r["cascade"], r["validation"]
        print(f"| {r['cheap']} | {r['alone']['macs'] / aom['macs']:.2f} | {r['alone']['accuracy'] * 100:.2f} % | {r['threshold']:.3f} | {c['repeated'] * 100:.0f} % | {c['accuracy'] * 100:.2f} % |"
              f" {c['accuracy'] / aom['accuracy'] * 100:.2f} % | {c['macs'] / aom['macs']:.2f} | {v['kept'] * 100:.2f} % at {v['macs']:.2f} |")
    for r in rows if a.curves else []:
        print(f"\n{r['cheap']}: threshold, share of AOM's accuracy, repeated, multiply-adds of AOM's")
        for t, acc, repeated, macs in r["curve"]:
            print(f"{t:.3f}  {acc / r['aom_val']:.4f}  {repeated:.2f}  {macs / r['aom_macs']:.2f}")


if __name__ == "__main__":
    main()
