#!/usr/bin/python3
"""Do the strategies of weights do what is expected of them? Trains a ResNet-18 of a quarter of its width on photographs of CIFAR-10 through the daemon,
once for every arm of the table below and every seed, and prints each arm's accuracy on the test images after the last epoch, beside what was expected.
Arms that name a strategy or an option that this daemon's capabilities do not list are skipped, with that reason.

--state holds the daemon's data, results.jsonl (a line for every finished job) and the masks. The run may be interrupted anywhere and goes on when it is
started again, also with more seeds:
  tests/bench/strategies.py --state arms                                  # an hour or two of one core
  tests/bench/strategies.py --state arms --epochs 20                      # as long as the plan says
  tests/bench/strategies.py --state arms --only compander --seeds 1       # a part of it
  tests/bench/strategies.py --state arms --seconds 0                      # the table of what is there"""
import argparse, array, base64, hashlib, json, math, os, statistics, time

from kept import Kept, add_arguments, jobs, quarter, register, say, work
from lib import Skip, cifar_subset, safetensors

WEIGHTS = {"F32": "f", "F64": "d"}
GLYPHS = {"name": "glyphs-2000-1000", "synthetic": {"kind": "glyphs", "train": 2000, "test": 1000, "seed": 1}}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, default=3000, help="training images")
    p.add_argument("--test", type=int, default=2000, help="test images; none of them decides anything")
    p.add_argument("--epochs", type=int, default=10, help="length of a run, a multiple of 5; everything else is a share of it")
    p.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    p.add_argument("--only", nargs="+", help="only these groups of arms")
    p.add_argument("--precision", default="bf16")
    p.add_argument("--nice", type=int, default=15, help="niceness of the training process")
    return p.parse_args()


# ---- the networks ------------------------------------------------------------------------------------------------------------

def narrow_vgg():
    """VGG-16 with batch normalisation, a quarter of its width and one linear layer."""
    layers = []
    for out in (16, 16, 0, 32, 32, 0, 64, 64, 64, 0, 128, 128, 128, 0, 128, 128, 128, 0):
        layers += [{"type": "conv", "out": out, "bias": False}, {"type": "batchnorm"}, {"type": "relu"}] if out else [{"type": "maxpool", "kernel": 2}]
    return {"name": "vgg-quarter", "layers": layers + [{"type": "flatten"}, {"type": "linear", "out": "classes"}]}


def small_net():
    """About 900 weights, on images of half the side."""
    conv = [{"type": "conv", "out": 8, "bias": False}, {"type": "batchnorm"}, {"type": "relu"}]
    return {"name": "small", "init": "he", "layers": [{"type": "avgpool", "kernel": 2}, *conv, {"type": "maxpool", "kernel": 2}, *conv, {"type": "globalpool"}, {"type": "flatten"},
                                                      {"type": "linear", "out": "classes", "bias": False}]}


# ---- the arms ----------------------------------------------------------------------------------------------------------------

def points(text, of, beside, low=-math.inf, high=math.inf):
    """Expects the mean accuracy of `of` to be between low and high points above that of `beside`."""
    def judge(r):
        got = 100 * (r.mean(of, "acc") - r.mean(beside, "acc"))
        return low <= got <= high, f"{got:+.1f} points beside {beside}"
    return {"text": text, "needs": [of, beside], "judge": judge}


def above(text, of, beside, number, scale=1):
    def judge(r):
        a, b = r.mean(of, number) * scale, r.mean(beside, number) * scale
        return a > b, f"{a:.3g} beside {b:.3g}"
    return {"text": text, "needs": [of, beside], "judge": judge}


def not_above(text, of, beside, number, scale=1, room=0.0):
    def judge(r):
        a, b = r.mean(of, number) * scale, r.mean(beside, number) * scale
        return a <= b + room, f"{a:.3g} beside {b:.3g}"
    return {"text": text, "needs": [of, beside], "judge": judge}


def layers_below(text, of, beside, i):
    """Expects number i of the distribution to be lower than plain in more than half of the layers, as means over the seeds."""
    def judge(r):
        a, b = r.layers(of, i), r.layers(beside, i)
        lower = sum(a[n] < b[n] for n in a)
        return 2 * lower > len(a), f"in {lower} of {len(a)} layers; mean {statistics.mean(a.values()):.3g} beside {statistics.mean(b.values()):.3g}"
    return {"text": text, "needs": [of, beside], "judge": judge}


def alike(text, of, beside):
    """Expects the living weights of two seeds to overlap more; chance: what random masks of that size share."""
    def judge(r):
        a, b = r.overlap(of), r.overlap(beside)
        return a > b, f"{100 * a:.2f} % shared beside {100 * b:.2f} %"
    return {"text": text, "needs": [of, beside], "judge": judge, "seeds": 2}


def within(text, of, number, low, high):
    def judge(r):
        got = r.mean(of, number)
        return low <= got <= high, f"{100 * got:.1f} %"
    return {"text": text, "needs": [of], "judge": judge, "number": number}


def early(text, of, epoch, least):
    def judge(r):
        got = statistics.mean(x["curve"][epoch - 1]["train_acc"] for x in r.lines(of))
        return got > least, f"{100 * got:.1f} %"
    return {"text": text, "needs": [of], "judge": judge}


def falling(text, of):
    def judge(r):
        first, last = (statistics.mean(x["curve"][i]["flips"] for x in r.lines(of)) for i in (0, -1))
        return last < first, f"{100 * first:.1f} % of the weights in the first, {100 * last:.1f} % in the last"
    return {"text": text, "needs": [of], "judge": judge}


def sooner(text, of, beside):
    """Expects `of` to be better when it had as many seconds of training as all of `beside` took, seed by seed."""
    def judge(r):
        pairs = []
        for x, y in zip(r.lines(of), r.lines(beside)):
            until = [p["acc"] for p in x["curve"] if p["acc"] is not None and p["seconds"] <= y["curve"][-1]["seconds"]]
            pairs.append((until[-1] if until else 0, y["acc"]))
        a, b = (100 * statistics.mean(p[i] for p in pairs) for i in (0, 1))
        return a > b, f"{a:.1f} beside {b:.1f} %"
    return {"text": text, "needs": [of, beside], "judge": judge}


def arms(a):
    """The table: each arm's group, name, what its spec has instead of the plain run's, what is to be measured beside the accuracy, and what is expected.
    part(x): x of the run's epochs."""
    e = a.epochs                       # a multiple of 5
    part = lambda x: round(x * e, 6) if x * e % 1 else round(x * e)
    sgd = lambda lr, decay: {"type": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": decay}
    magnitude = lambda s, **more: [{"type": "magnitude", "sparsity": s, "every": 20, **more}]
    rows = [dict(group="magnitude", name="plain", measure=["distribution"])]

    def arm(group, name, weights, *expect, **more):
        rows.append(dict(group=group, name=name, weights=weights, expect=expect, **more))

    # Zhu and Gupta's ramp: a tenth to three quarters of the run.
    arm("magnitude", "magnitude 50 %", magnitude(0.5), points("loss about 0 (here: within 2)", "magnitude 50 %", "plain", -2))
    arm("magnitude", "magnitude 80 %", magnitude(0.8), points("loss at most 2", "magnitude 80 %", "plain", -2))
    arm("magnitude", "magnitude 95 %", magnitude(0.95), points("loss 5 or more", "magnitude 95 %", "plain", high=-5))
    for s in (50, 80, 95):
        arm("magnitude", f"random {s} %", magnitude(s / 100, criterion="random"),
            points("worse than magnitude", f"random {s} %", f"magnitude {s} %", high=0))
    # Asked after the rows above were there: what magnitude keeps has 1.9 times the norm of what chance keeps, and behind batch normalisation lr/norm^2 counts.
    arm("magnitude", "magnitude 95 %, rate 0.18", magnitude(0.95), points("as good as random with its lr/norm² (here: within 2)", "magnitude 95 %, rate 0.18", "random 95 %", -2),
        train={"optimizer": sgd(0.18, 5e-4)})
    for s in (80, 95):
        arm("one-shot", f"one-shot {s} % at the end", magnitude(s / 100, begin=e, end=e),
            points("gradual is better by a lot (here: 5)", f"magnitude {s} %", f"one-shot {s} % at the end", 5))
        arm("one-shot", f"one-shot {s} % at 75 %, then trained", magnitude(s / 100, begin=part(0.75), end=part(0.75)),
            points("gradual is not worse (here: by over 2)", f"magnitude {s} %", f"one-shot {s} % at 75 %, then trained", -2))

    # Dense for 0.6 of the run, then pruned at random at once; 0.2 to 0.6 follow again. The rate falls to a tenth halfway through the dense part.
    drop = {"schedule": {"type": "step", "every": math.ceil(0.3 * e), "gamma": 0.1}}
    for kind in ("finetune", "weights", "lr"):
        arm("retrain", f"random 60 %, {kind}", magnitude(0.6, criterion="random", begin=part(0.6), end=part(0.6), retrain=kind, to_epoch=part(0.2)),
            *([] if kind == "finetune" else [points("at least as good as finetune", f"random 60 %, {kind}", "random 60 %, finetune", 0)]), train=drop)

    arm("compander", "compander", [{"type": "compander", "unit": "std"}],
        layers_below("largest weight / rms below plain in most layers", "compander", "plain", 0),
        layers_below("share of weights below 0.1 rms lower than plain in most layers", "compander", "plain", 1),
        points("accuracy within 2", "compander", "plain", -2, 2),
        not_above("training minus test accuracy not larger (here: by over 2)", "compander", "plain", "gap", 100, room=2.0), measure=["distribution"])

    arm("weightmom", "weightmom 90 %, beta 0.9", [{"type": "weightmom", "sparsity": 0.9, "beta": 0.9}],
        points("within 2 of beta 0", "weightmom 90 %, beta 0.9", "weightmom 90 %, beta 0", -2, 2),
        alike("masks of two seeds more alike than with beta 0", "weightmom 90 %, beta 0.9", "weightmom 90 %, beta 0"), measure=["masks"])
    arm("weightmom", "weightmom 90 %, beta 0", [{"type": "weightmom", "sparsity": 0.9, "beta": 0}], measure=["masks"])
    arm("weightmom", "random 90 %, same span", magnitude(0.9, criterion="random", begin=part(0.2), end=part(0.8)),
        points("clearly worst (here: by over 2)", "random 90 %, same span", "weightmom 90 %, beta 0", high=-2), measure=["masks"])

    # Half of the filters die in the first half of the run; the widths are multiples of 8.
    structured = lambda **more: [{"type": "structured", "sparsity": 0.5, "granularity": "filter", "begin": 0, "end": part(0.5), "every": 10, "round_to": 8, **more}]
    arm("structured", "VGG, plain", None, model=narrow_vgg())
    arm("structured", "VGG, filters 50 %", structured(),
        points("loss of 1 to 4", "VGG, filters 50 %", "VGG, plain", -4, -1),
        within("multiply-adds 25 to 30 %", "VGG, filters 50 %", "macs", 0.25, 0.30),
        within("time per image 35 to 60 %", "VGG, filters 50 %", "time", 0.35, 0.60), model=narrow_vgg(), measure=["slim"])
    arm("structured", "VGG, random filters 50 %", structured(criterion="random"),
        points("worse than by magnitude", "VGG, random filters 50 %", "VGG, filters 50 %", high=0), model=narrow_vgg())

    # A dense start of 0.4 of the run at a high rate; from its weights 0.6 more, a fifth of the weights dead from the first step.
    # The control's sparsity rounds to no weight at all: it has an event, and with it the thresholds of what counts as shed.
    start = {"epochs": part(0.4), "optimizer": sgd(0.1, 5e-4), "schedule": {"type": "constant"}}
    arm("shedding", "start for shedding", None, train=start)
    for what, lr, decay in (("rate 0.1, decay", 0.1, 5e-4), ("rate 0.1, no decay", 0.1, 0), ("rate 0.001, decay", 0.001, 5e-4)):
        name = f"shed, {what}"
        expect = above if lr == 0.1 and decay else not_above
        text = "shed share above its control's" if expect is above else "shed share not above its control's (here: by over 0.1 %)"
        for s, n in ((0.2, name), (1e-9, name + ", control")):
            arm("shedding", n, magnitude(s, criterion="random", begin=0, end=0),
                *([expect(text, name, name + ", control", "shed", 100, **({} if expect is above else {"room": 0.1}))] if s == 0.2 else []),
                train={"epochs": part(0.6), "optimizer": sgd(lr, decay), "schedule": {"type": "constant"}}, start="start for shedding")

    for batch in (500, 50):
        arm("rso", f"RSO, batch {batch}", None,
            *([early("training accuracy above 60 % after cycle 3", "RSO, batch 500", 3, 0.6), falling("flips per cycle fall", "RSO, batch 500"),
               points("better than batch 50", "RSO, batch 500", "RSO, batch 50", 0)] if batch == 500 else []),
            model=small_net(), dataset=GLYPHS, train={"epochs": 10, "batch": batch, "optimizer": {"type": "rso"}, "schedule": {"type": "constant"}, "precision": "fp32"}, measure=["curve"], every=1)
    arm("rso", "AdamW", None, sooner("better than RSO in the same time", "AdamW", "RSO, batch 500"), model=small_net(), dataset=GLYPHS,
        train={"epochs": 200, "batch": 50, "optimizer": {"type": "adamw", "lr": 0.003}, "precision": "fp32"}, measure=["curve"], every=5)

    return [r for r in rows if not a.only or r["group"] in a.only or r["name"] == "plain"]


def spec_of(arm, seed, a, dataset):
    train = {"epochs": a.epochs, "batch": 64, "seed": seed, "precision": a.precision, "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
             "schedule": {"type": "cosine"}, **arm.get("train", {})}
    spec = {"dataset": arm["dataset"]["name"] if "dataset" in arm else dataset, "model": arm.get("model") or quarter(), "data": {"val_fraction": 0}, "train": train,
            "eval": {"every": arm.get("every", train["epochs"])}, "checkpoint": {"every": 5}}
    spec.update({"weights": arm["weights"]} if arm.get("weights") else {"was": False})
    digest = hashlib.sha256(json.dumps([arm.get("start"), a.epochs, spec], sort_keys=True).encode()).hexdigest()[:8]
    spec.update(limits={"nice": a.nice, "threads": 1}, retry={"max": 20})
    return {"name": f"{arm['name']}, seed {seed}, {digest}", **spec}


def lacking(arm, capabilities):
    """Why this daemon cannot run the arm; None: it can."""
    known = {s["type"]: s for s in capabilities["strategies"]}
    for w in arm.get("weights") or []:
        if w["type"] not in known:
            return f"this daemon has no strategy {w['type']}"
    optimizer = arm.get("train", {}).get("optimizer", {}).get("type", "sgd")
    return None if optimizer in [o["name"] for o in capabilities["optimizers"]] else f"this daemon has no optimizer {optimizer}"


# ---- running -----------------------------------------------------------------------------------------------------------------

def checkpoint_of(d, job):
    items = d.client.get(f"/v1/jobs/{job}/checkpoints").json["items"]
    return max(items, key=lambda k: k["epoch"])["id"]


def distribution(tensors):
    """{layer: [max|W| / rms(W), share of |W| < 0.1 rms(W)]} of the kernels and matrices."""
    out = {}
    for name, (dtype, shape, data) in tensors.items():
        if name.endswith(".weight") and len(shape) > 1 and dtype in WEIGHTS:
            w = array.array(WEIGHTS[dtype], data)
            rms = math.sqrt(sum(v * v for v in w) / len(w))
            out[name.removesuffix(".weight")] = [max(abs(v) for v in w) / rms, sum(abs(v) < 0.1 * rms for v in w) / len(w)]
    return out


def masks(tensors):
    return b"".join(data for name, (_, _, data) in sorted(tensors.items()) if name.startswith(("weights.magnitude.", "weights.weightmom.")) and name.endswith(".weight"))


def curve(s):
    """After each epoch: the seconds of training so far, accuracies (None: not evaluated), the weights that rso changed."""
    seconds, out = 0, []
    for e in sorted(s["epoch_s"]):
        seconds += s["epoch_s"][e]
        out.append({"seconds": seconds, "train_acc": s["train_acc"][e], "acc": s["val_acc_aom"].get(e), "flips": s.get("rso_flips", {}).get(e)})
    return out


def slim_time(d, job, a, images=64, rounds=15):
    """The slim network's time per image as a share of the dense one's: of the execution alone, in batches of 64 that alternate. None: there is no mode slim."""
    modes = [m["name"] for m in d.client.get(f"/v1/checkpoints/{checkpoint_of(d, job['id'])}/modes").json["items"]]
    if "slim" not in modes:
        return None
    body = {"images": [base64.b64encode(data).decode() for _, data in cifar_subset(a.images, a.test)[-images:]]}
    spent = {"aom": [], "slim": []}
    execution = lambda name: d.client.get(f"/v1/deployments/{name}/stats").json["inference_stats"]["compute_infer"]["ns"]
    for mode in spent:
        d.deploy(f"arm-{mode}", job["id"], mode=mode, follow="latest")
    for _ in range(rounds):
        for mode, took in spent.items():
            before = execution(f"arm-{mode}")
            d.client.post(f"/v1/deployments/arm-{mode}/classify?k=1", body, want=200)
            took.append(execution(f"arm-{mode}") - before)
    for mode in spent:
        d.client.delete(f"/v1/deployments/arm-{mode}")
    return statistics.median(spent["slim"]) / statistics.median(spent["aom"])


def measured(d, arm, seed, job, a):
    """The line of a finished job."""
    s = d.series(job["id"])
    last = lambda name: s[name][max(s[name])] if name in s else None
    out = {"arm": arm["name"], "seed": seed, "name": job["name"], "job": job["id"], "acc": last("val_acc_aom"), "train_acc": last("train_acc"),
           "gap": last("train_acc") - last("val_acc_aom"), "alive": last("prune_alive"), "shed": last("prune_shed"), "epoch_s": statistics.median(s["epoch_s"].values())}
    if "structured_macs" in s:
        out["macs"] = last("structured_macs")
    if "curve" in arm.get("measure", ()):
        out["curve"] = curve(s)
    if "slim" in arm.get("measure", ()):
        out["time"] = slim_time(d, job, a)
    if {"distribution", "masks"} & set(arm.get("measure", ())):
        _, tensors = safetensors(d.client.get(f"/v1/checkpoints/{checkpoint_of(d, job['id'])}/file").body)
        if "distribution" in arm["measure"]:
            out["distribution"] = distribution(tensors)
        if "masks" in arm["measure"]:
            with open(mask_file(a, job["name"]), "wb") as f:
                f.write(masks(tensors))
    return out


def mask_file(a, name):
    return os.path.join(a.state, hashlib.sha256(name.encode()).hexdigest()[:16] + ".mask")


def results(a):
    """{job name: its line}; a line that was cut short does not count."""
    out = {}
    try:
        with open(os.path.join(a.state, "results.jsonl")) as f:
            for line in f:
                try:
                    r = json.loads(line)
                except ValueError:
                    continue
                out[r["name"]] = r
    except FileNotFoundError:
        pass
    return out


def keep(a, line):
    path = os.path.join(a.state, "results.jsonl")
    with open(path, "a+b") as f:
        f.seek(max(0, f.seek(0, 2) - 1))
        torn = f.read() not in (b"", b"\n")
        f.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")


class Cut(Exception):
    """Ctrl-C, or no time left."""


def run(d, arm, seed, spec, a, end):
    """Runs one job to its end and keeps its line. Returns whether it is there."""
    if "start" in arm:
        first = results(a).get(next(s["name"] for r, s in plan(a) if r["name"] == arm["start"] and s["train"]["seed"] == seed))
        if not first:
            return False
        spec = dict(spec, init_from=checkpoint_of(d, first["job"]))
    if "dataset" in arm and d.client.get(f"/v1/datasets/{arm['dataset']['name']}", want=(200, 404)).status == 404:
        d.client.post("/v1/datasets", arm["dataset"])
        d.wait_dataset(arm["dataset"]["name"])
    failed = work(d, [spec], end)
    job = jobs(d).get(spec["name"])
    if failed:
        return False
    if not job or job["state"] != "completed":
        raise Cut
    keep(a, measured(d, arm, seed, job, a))
    return True


def plan(a):
    """Every arm with the first seed, then with the second."""
    return [(arm, spec_of(arm, seed, a, f"cifar-{a.images}-{a.test}")) for seed in a.seeds for arm in arms(a)]


def run_all(d, a, end):
    skipped, failed = {}, []
    capabilities = d.client.get("/v1/capabilities").json
    for arm in arms(a):
        why = lacking(arm, capabilities)
        if why:
            skipped[arm["name"]] = why
    try:
        for arm, spec in plan(a):
            if arm["name"] not in skipped and spec["name"] not in results(a) and not run(d, arm, spec["train"]["seed"], spec, a, end):
                failed.append(spec["name"])
    except Cut:
        pass
    return skipped, failed


# ---- the table ---------------------------------------------------------------------------------------------------------------

class Results:
    def __init__(self, a):
        there = results(a)
        self.a, self.of = a, {}
        for arm, spec in plan(a):
            if spec["name"] in there:
                self.of.setdefault(arm["name"], []).append(there[spec["name"]])

    def lines(self, arm):
        return self.of.get(arm, [])

    def mean(self, arm, number):
        return statistics.mean(r[number] for r in self.lines(arm) if r.get(number) is not None)

    def layers(self, arm, i):
        per_seed = [r["distribution"] for r in self.lines(arm)]
        return {layer: statistics.mean(p[layer][i] for p in per_seed) for layer in per_seed[0]}

    def overlap(self, arm):
        """The share of living weights that the first two seeds have in common, of those that either has."""
        one, two = (int.from_bytes(open(mask_file(self.a, r["name"]), "rb").read(), "little") for r in self.lines(arm)[:2])
        return (one & two).bit_count() / (one | two).bit_count()

    def verdicts(self, arm):
        """[(what was expected, what came, "yes" or "no")]"""
        out = []
        for x in arm.get("expect", ()):
            number = x.get("number")
            if any(len(self.lines(n)) < x.get("seeds", 1) or (number and all(r.get(number) is None for r in self.lines(n))) for n in x["needs"]):
                out.append((x["text"], "not measured", "–"))
                continue
            holds, got = x["judge"](self)
            out.append((x["text"], got, "yes" if holds else "no"))
        return out


def per_cent(values):
    values = [v for v in values if v is not None]
    return f"{100 * statistics.mean(values):.1f}" if values else ""


def report(a, skipped):
    r = Results(a)
    print(f"{a.images} training and {a.test} test images, {a.epochs} epochs of batches of 64, {a.precision}; accuracies in per cent after the last epoch\n")
    print("| arm | seeds | test | each seed | training | alive | shed | expected | measured | as expected |\n|---|---|---|---|---|---|---|---|---|---|")
    for arm in arms(a):
        lines, verdicts = r.lines(arm["name"]), r.verdicts(arm) or [("", "", "")]
        if arm["name"] in skipped and not lines:
            print(f"| {arm['name']} | – | skipped: {skipped[arm['name']]} | | | | | | | |")
            continue
        first = [arm["name"], ", ".join(str(x["seed"]) for x in lines) or "–", per_cent(x["acc"] for x in lines), ", ".join(per_cent([x["acc"]]) for x in lines),
                 per_cent(x["train_acc"] for x in lines), per_cent(x["alive"] for x in lines), per_cent(x["shed"] for x in lines)]
        for verdict in verdicts:
            print(f"| {' | '.join(first)} | {' | '.join(verdict)} |")
            first = [""] * len(first)


def main():
    a = arguments()
    if a.epochs % 5:
        raise SystemExit("--epochs must be a multiple of 5")
    end = time.monotonic() + a.seconds
    with Kept(a.state) as d:
        try:
            register(d, a.images, a.test)
        except Skip as why:
            raise SystemExit(str(why)) from None
        skipped, failed = run_all(d, a, end)
    if a.json:
        print(json.dumps(list(results(a).values())))
    else:
        report(a, skipped)
    if failed:
        raise SystemExit(f"jobs that did not complete: {', '.join(failed)}")


if __name__ == "__main__":
    main()
