#!/usr/bin/python3
"""int8 modes with the real engine: made of aom, of dom and of a profile on a trained checkpoint, served beside them on one live model, switched to and back,
exported, and close to the float accuracy; requests that are refused."""
import os

from lib import BUILD, Daemon, case, check, equal, finish, noise_png

BN, RELU = {"type": "batchnorm"}, {"type": "relu"}
# Blocks of parallel branches, as in RepVGG, so that "cfws" has layers to split.
BLOCK = lambda name, of, out, stride: [
    {"type": "conv", "name": f"{name}3", "from": of, "out": out, "stride": stride, "bias": False, "augment": True}, {**BN, "name": f"{name}b3"},
    {"type": "conv", "name": f"{name}1", "from": of, "out": out, "kernel": 1, "stride": stride, "bias": False}, {**BN, "name": f"{name}b1"},
    {"type": "add", "name": f"{name}s", "from": [f"{name}b3", f"{name}b1"]}, {**RELU, "name": name}]
LAYERS = (BLOCK("a", "input", 16, 1) + BLOCK("b", "a", 32, 2) + BLOCK("c", "b", 64, 2) +
          [{"type": "globalpool"}, {"type": "flatten"}, {"type": "linear", "out": "classes"}])
# In fp32-strict, so that every run of this test quantises the same weights.
SPEC = {"dataset": "glyphs", "data": {"val_fraction": 0.4}, "model": {"layers": LAYERS}, "was": {"probability": 0.5, "alpha": "fixed"},
        "train": {"epochs": 8, "batch": 32, "seed": 3, "precision": "fp32-strict", "optimizer": {"type": "adamw", "lr": 0.004}},
        "profiles": [{"name": "fast", "desire": "macs", "budget": 0.9, "evaluations": 20}]}
PNG = {"Content-Type": "image/png"}


def classify(d, mode=None, image=1):
    return d.client.post("/v1/deployments/live/classify?logits=1&k=1" + (f"&mode={mode}" if mode else ""), noise_png(image), want=200, headers=PNG).json


def logits(answer):
    return answer["results"][0]["logits"]


def wait(d, path, want="ready"):
    for _ in range(10):
        m = d.client.get(path + "?wait=30s").json
        if m["state"] in ("ready", "failed"):
            equal(m["state"], want, f"{path}: {m}")
            return m
    raise AssertionError(f"{path} is still {m['state']}: {m}")


with Daemon() as d:
    c = d.client
    d.glyphs(train=2500, test=400)
    job = d.wait_job(d.submit(**SPEC)["id"])
    best = job["best"]["checkpoint"]
    modes = f"/v1/checkpoints/{best}/modes"
    made = {}
    with case("made of aom, dom and a profile, with every option; accuracy within half a point of the base, but for five of 1,000 images"):
        float_acc = {m["name"]: m["val_acc"] for m in c.get(modes).json["items"]}
        for name, request in {"plain": {}, "of-dom": {"base": "dom"}, "dom-fast-cfws": {"base": "dom:fast", "weights": "cfws", "images": 64}, "split": {"weights": "cfws", "activations": "kl-clip"}}.items():
            by_options = {"plain": "plain", "dom-fast-cfws": "dom-fast-cfws-64"}.get(name)
            full = f"int8:{by_options or name}"
            equal(c.post(modes, {"desire": "int8", **({} if by_options else {"name": name}), **request}, want=202).json["name"], full)
            m = made[name] = wait(d, f"{modes}/{full}")
            base = request.get("base", "aom")
            check(abs(m["val_acc"] - float_acc[base]) <= 0.005 + 5 / 1000, f"{name}: {m['val_acc']}, {base} {float_acc[base]}")
        fc = 64 * 10                                     # the three sums of branches are 3x3, with a 1x1 kernel beside when split
        equal(9 * (made["split"]["macs"] - made["plain"]["macs"]), made["plain"]["macs"] - fc)
        check(made["of-dom"]["macs"] <= made["plain"]["macs"] and made["dom-fast-cfws"]["macs"] < made["plain"]["macs"], "dropped taps stay dropped")

    with case("live beside their bases: an answer of its own for every mode, switched to and back"):
        d.deploy("live", job["id"])
        there = c.get("/v1/deployments/live/mode").json["bundles"]
        check({m["name"] for m in made.values()} <= set(there), sorted(there))
        before = {m: logits(classify(d, m)) for m in there}
        equal(len({str(v) for m, v in before.items() if m in ("aom", "int8:plain", "int8:split")}), 3)
        for pair in (("aom", "int8:plain"), ("dom:fast", made["dom-fast-cfws"]["name"])):
            a, b = (before[m] for m in pair)
            check(max(abs(p - q) for p, q in zip(a, b)) <= 0.1 * max(map(abs, a)), pair)
        for mode in ("int8:plain", "aom", made["dom-fast-cfws"]["name"], "dom", "int8:of-dom", "aom"):
            c.put("/v1/deployments/live/mode", {"mode": mode}, want=200)
            a = classify(d)
            equal((a["mode"], logits(a)), (mode, before[mode]))

    with case("as ONNX, in QDQ form"):
        model = c.get(f"/v1/checkpoints/{best}/file?format=onnx&mode=int8:split").body
        check(b"QuantizeLinear" in model and b"DequantizeLinear" in model and b"coarse_weight" in model, "quantised")
        check(len(model) < len(c.get(f"/v1/checkpoints/{best}/file?format=onnx&mode=aom").body), "smaller than float")

    with case("refused by name, and nothing changes"):
        before = c.get(modes).json
        for wrong, member in (({"weights": "fine"}, "weights"), ({"images": 1}, "images"), ({"base": "none"}, "base"), ({"bits": 4}, "bits")):
            problem = c.post(modes, {"desire": "int8", "name": "wrong", **wrong}, want=(400, 404, 422)).json
            check(member in str(problem), problem)
        equal(c.get(modes).json, before)

    with case("on a machine without VNNI: told why it cannot be made or served; exported all the same"):
        d.stop()
        engine = os.path.join(d.data, "..", "engine")    # the daemon hands only some variables on
        with open(engine, "w") as f:
            f.write(f'#!/bin/sh\nDNNL_MAX_CPU_ISA=AVX512_CORE exec "{BUILD}/wasd-engine" "$@"\n')
        os.chmod(engine, 0o755)
        d.env["WASD_ENGINE"] = os.path.abspath(engine)
        c = d.start().client
        problem = c.post(modes, {"desire": "int8", "name": "late"}, want=422).json
        check(problem["errors"][0]["pointer"] == "/desire" and "VNNI" in str(problem), problem)
        c.post("/v1/deployments", {"name": "eight", "source": {"job": job["id"], "follow": "best"}, "mode": "int8:plain"}, want=(201, 202))
        for _ in range(10):
            there = c.get("/v1/deployments/eight?wait=10s").json
            if there["state"] in ("ready", "failed"):
                break
        check(there["state"] == "failed" and "VNNI" in there["message"], there)
        check(b"QuantizeLinear" in c.get(f"/v1/checkpoints/{best}/file?format=onnx&mode=int8:plain").body, "exported")

finish()
