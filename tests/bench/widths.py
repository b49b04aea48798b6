#!/usr/bin/python3
"""Networks of several widths in one set of weights (strategy slices) beside networks of those widths trained alone for as long: a ResNet-18 of a quarter of its width on
photographs of CIFAR-10, through the daemon. Prints the accuracy on the test images after the last epoch, and for every width the measured time of an image as a share of
the whole network's beside the share of its multiply-adds.

With --budgets, also the mode dynamic, which sends every image to a width: for each budget of mean multiply-adds its accuracy on the test images and the multiply-adds that
they really took, beside what the widths reach at as many (interpolated between the two next to it). Its run holds out a tenth of the training images, by which lambda is chosen.

Expected: every width within 2 points of the network trained alone; the time falls by 0.8 of what the multiply-adds fall by; dynamic above the line through the widths.

--state holds the daemon's data and times.json. The run may be interrupted anywhere and goes on when it is started again, also with more seeds:
  tests/bench/widths.py --state widths                     # minutes of one core
  tests/bench/widths.py --state widths --epochs 20 --seeds 1 2
  tests/bench/widths.py --state widths --budgets 0.1 0.2 0.4 0.6 0.8 --only dynamic
  tests/bench/widths.py --state widths --seconds 0         # the table of what is there"""
import argparse, base64, hashlib, json, os, statistics, time

from kept import Kept, add_arguments, jobs, quarter, register, say, work
from lib import Skip, cifar_subset

WIDTHS = (0.25, 0.5, 0.75, 1)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, default=3000, help="training images")
    p.add_argument("--test", type=int, default=2000, help="test images; none of them decides anything")
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--seeds", type=int, nargs="+", default=[1])
    p.add_argument("--only", nargs="+", default=[], help="only these arms: slices, 0.25, ...")
    p.add_argument("--teacher", default="largest", choices=("largest", "ema"))
    p.add_argument("--label-epochs", type=int, help="first epochs, in which all learn from the labels; the strategy's default if absent")
    p.add_argument("--lr", type=float, default=0.025, help="of the slices; lower than 0.05 of the others, as the gradients of four passes are added")
    p.add_argument("--precision", default="fp32")
    p.add_argument("--nice", type=int, default=15, help="niceness of the training process")
    p.add_argument("--budgets", type=float, nargs="+", default=[], help="of the mode dynamic, as shares of the whole network's multiply-adds")
    p.add_argument("--rounds", type=int, default=15, help="of the measurement of times, in which the modes alternate")
    return p.parse_args()


def channels(n, width):
    """As the strategy rounds them."""
    v = width * n
    out = max(8, int(v + 4) // 8 * 8)
    return min(n, out + 8 if out < 0.9 * v else out)


def narrow(width):
    model = quarter()
    for layer in model["layers"]:
        if isinstance(layer.get("out"), int):
            layer["out"] = channels(layer["out"], width)
    return {**model, "name": f"resnet18-quarter-{width:g}"}


def specs(a, dataset):
    """{(arm, seed): spec}; arm: "slices", "dynamic" (the same with images held out), or a width trained alone."""
    out = {}
    for seed in a.seeds:
        train = lambda lr: {"epochs": a.epochs, "batch": 64, "seed": seed, "precision": a.precision,
                            "optimizer": {"type": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": 5e-4}, "schedule": {"type": "cosine"}}
        base = {"dataset": dataset, "data": {"val_fraction": 0}, "eval": {"every": a.epochs}, "checkpoint": {"every": a.epochs}}
        labels = {} if a.label_epochs is None else {"label_epochs": a.label_epochs}
        arms = {"slices": {"model": quarter(), "weights": [{"type": "slices", "widths": list(WIDTHS), "teacher": a.teacher, **labels}], "train": train(a.lr)}}
        arms.update({w: {"model": narrow(w), "was": False, "train": train(0.05)} for w in WIDTHS})
        if a.budgets:
            arms["dynamic"] = {**arms["slices"], "data": {"val_fraction": 0.1}}
        for arm, more in arms.items():
            if a.only and str(arm) not in a.only:
                continue
            spec = {**base, **more}
            digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
            out[arm, seed] = {"name": f"{arm}, seed {seed}, {digest}", **spec, "limits": {"nice": a.nice, "threads": 1}, "retry": {"max": 20}}
    return out


def mode_of(width):
    return "aom" if width == 1 else f"width:{width:g}"


def times(d, job, a, images):
    """Nanoseconds of the execution of `images` images together, for every width, in rounds that alternate."""
    body = {"images": [base64.b64encode(data).decode() for _, data in cifar_subset(a.images, a.test)[-images:]]}
    spent = lambda: d.client.get("/v1/deployments/widths/stats").json["inference_stats"]["compute_infer"]["ns"]
    took = {w: [] for w in WIDTHS}
    d.client.delete("/v1/deployments/widths", want=(202, 204, 404))    # of a run that was interrupted
    d.deploy("widths", job, follow="latest")
    for _ in range(a.rounds):
        for w in WIDTHS:
            before = spent()
            d.client.post(f"/v1/deployments/widths/classify?k=1&mode={mode_of(w)}", body, want=200)
            took[w].append(spent() - before)
    d.client.delete("/v1/deployments/widths")
    return {f"{w:g}": [statistics.median(took[w]), statistics.median(x / y for x, y in zip(took[w], took[1]))] for w in WIDTHS}


def judge(d, mode, test):
    """(accuracy, multiply-adds of an image) of a mode on the test images, 64 at a time."""
    right, macs = 0, 0
    for at in range(0, len(test), 64):
        some = test[at:at + 64]
        said = d.client.post(f"/v1/deployments/gate/classify?k=1&mode={mode}", {"images": [base64.b64encode(data).decode() for _, data in some]}, want=200).json
        right += sum(r["top"][0]["label"] == name.removeprefix("./").split("/")[1] for r, (name, _) in zip(said["results"], some))
        macs += said["macs"] * len(some)
    return right / len(test), macs / len(test)


def dynamic(d, job, a):
    """{mode: (accuracy, multiply-adds)} on the test images, of the widths and of the mode dynamic at every budget."""
    test = [e for e in cifar_subset(a.images, a.test) if e[0].removeprefix("./").startswith("test/")]
    checkpoint = d.client.get(f"/v1/jobs/{job}").json["best"]["checkpoint"]
    path, made = f"/v1/checkpoints/{checkpoint}/modes", []
    for budget in a.budgets:
        mode = d.client.post(path, {"desire": "dynamic", "budget": budget, "images": a.images}, want=(200, 202)).json["name"]
        while (m := d.client.get(f"{path}/{mode}?wait=30s").json)["state"] not in ("ready", "failed"):
            pass
        if m["state"] == "ready":
            made.append(mode)
        else:
            say(f"{mode}: {m['message']}")
    d.client.delete("/v1/deployments/gate", want=(202, 204, 404))
    d.deploy("gate", job)
    out = {m: judge(d, m, test) for m in (*map(mode_of, WIDTHS), *made)}
    d.client.delete("/v1/deployments/gate")
    return out


def between(points, macs):
    """Accuracy at so many multiply-adds on the line through the points [(multiply-adds, accuracy)]; beyond the ends that of the end."""
    points = sorted(points)
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x0 <= macs <= x1:
            return y0 + (y1 - y0) * (macs - x0) / (x1 - x0)
    return points[0][1] if macs < points[0][0] else points[-1][1]


def print_dynamic(found):
    widths = {m: v for m, v in found.items() if not m.startswith("dynamic:")}
    whole, line = found["aom"][1], [(v[1], v[0]) for v in widths.values()]
    for mode, (acc, macs) in found.items():
        text = f"  {mode}: {100 * macs / whole:.1f} % of the multiply-adds, {100 * acc:.1f} %"
        if mode not in widths:
            text += f", widths at as many {100 * between(line, macs):.1f} %, {100 * (acc - between(line, macs)):+.1f} points"
        print(text)


def last(d, job, name):
    series = d.series(job)[name]
    return series[max(series)]


def table(d, a, wanted, there):
    rows, step = [], {}
    for (arm, seed), spec in wanted.items():
        job = there.get(spec["name"])
        if job and job["state"] == "completed":
            step[arm] = last(d, job["id"], "epoch_s")
            if arm == "dynamic":
                continue
            if arm == "slices":
                rows += [("slices", seed, w, last(d, job["id"], f"val_acc_{mode_of(w)}")) for w in WIDTHS]
            else:
                rows.append(("alone", seed, arm, last(d, job["id"], "val_acc_aom")))
    return rows, step


def main():
    a = arguments()
    end = time.monotonic() + a.seconds
    kept = os.path.join(a.state, "times.json")
    with Kept(a.state) as d:
        dataset = register(d, a.images, a.test)
        wanted = specs(a, dataset)
        failed = work(d, list(wanted.values()), end)
        there = jobs(d)
        rows, step = table(d, a, wanted, there)
        sliced = there.get(wanted["slices", a.seeds[0]]["name"]) if ("slices", a.seeds[0]) in wanted else None
        if a.seconds and sliced and sliced["state"] == "completed" and not os.path.exists(kept):
            found = {n: times(d, sliced["id"], a, n) for n in (1, 64)}
            checkpoint = max(d.client.get(f"/v1/jobs/{sliced['id']}/checkpoints").json["items"], key=lambda k: k["epoch"])["id"]
            macs = {m["name"]: m["macs"] for m in d.client.get(f"/v1/checkpoints/{checkpoint}/modes").json["items"]}
            with open(kept, "w") as f:
                json.dump({"times": found, "macs": macs}, f)
        gated = there.get(wanted["dynamic", a.seeds[0]]["name"]) if ("dynamic", a.seeds[0]) in wanted else None
        routed = dynamic(d, gated["id"], a) if gated and gated["state"] == "completed" else None
        measured = json.load(open(kept)) if os.path.exists(kept) else None
        if a.json:
            print(json.dumps({"rows": rows, "epoch_s": {str(k): v for k, v in step.items()}, "measured": measured, "dynamic": routed, "failed": failed}))
            return
        mean = lambda how, w: statistics.mean(r[3] for r in rows if r[0] == how and r[2] == w) if any(r[0] == how and r[2] == w for r in rows) else None
        print(f"quarter-width ResNet-18, {a.images} photographs, {a.epochs} epochs, {len(a.seeds)} seeds, teacher {a.teacher}, rate {a.lr:g} together and 0.05 alone, {a.test} test images")
        for w in WIDTHS:
            together, alone = mean("slices", w), mean("alone", w)
            text = f"  width {w:<4g}: " + (f"together {100 * together:.1f} %" if together is not None else "together -") + (f", alone {100 * alone:.1f} %" if alone is not None else ", alone -")
            if together is not None and alone is not None:
                text += f", {100 * (together - alone):+.1f} points {'ok' if together >= alone - 0.02 else 'BELOW by more than 2'}"
            print(text)
        for arm, seconds in step.items():
            print(f"  an epoch of {arm if isinstance(arm, str) else f'width {arm:g} alone'}: {seconds:.1f} s")
        for n, found in (measured["times"].items() if measured else ()):
            for w in WIDTHS[:-1]:
                share, ratio = measured["macs"][mode_of(w)] / measured["macs"]["aom"], found[f"{w:g}"][1]
                gain = (1 - ratio) / (1 - share)
                print(f"  width {w:<4g}, batch {n}: multiply-adds {100 * share:.1f} %, time {100 * ratio:.1f} % ({found[f'{w:g}'][0] / 1e3 / int(n):.0f} us an image), "
                      f"{gain:.2f} of the fall {'ok' if gain >= 0.8 else 'BELOW 0.8'}")
        if routed:
            print_dynamic(routed)
        for name in failed:
            print(f"  failed: {name}")


try:
    main()
except Skip as why:
    say(f"skipped: {why}")
