#!/usr/bin/python3
"""Strategies of weights through the daemon: a pruned job's curves, log, files and answers; refusals by pointer."""
import json, math, os, struct, subprocess

from lib import BUILD, PATIENCE, Daemon, case, check, equal, finish, png, safetensors
from webdriver import Browser

PRUNED = {"dataset": "glyphs", "model": {"arch": "lenet"}, "weights": [{"type": "magnitude", "sparsity": 0.8, "begin": 0.5, "end": 2, "every": 2}],
          "train": {"epochs": 3, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.001, "decay": "weights"}}}
LAYERS = ["conv1", "conv2", "f1", "f2", "f3"]


def zeros_and_masks(tensors, layer):
    values = struct.unpack(f"<{len(tensors[layer][2]) // 4}f", tensors[layer][2])
    bits = tensors[f"weights.magnitude.{layer}"][2]
    return [v == 0 for v in values], [not bits[i // 8] >> i % 8 & 1 for i in range(len(values))]


def wasd(*args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=60 * PATIENCE)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout + p.stderr


with Daemon() as d:
    c = d.client
    d.glyphs(train=200, test=50)

    with case("what does not fit is refused by its pointer when the job is submitted"):
        for options, pointer in (({"sparsity": 1}, "/sparsity"), ({"begin": 2, "end": 1}, "/begin"), ({"end": 4}, "/end"), ({"scope": "net"}, "/scope"),
                                 ({"layers": "conv9"}, "/layers"), ({"schedule": "cubic"}, "/schedule"), ({"retrain": "lr", "to_epoch": 2}, "/to_epoch")):
            answer = c.post("/v1/jobs", dict(PRUNED, weights=[dict(type="magnitude", **options)]), want=422).json
            equal([e["pointer"] for e in answer["errors"]], ["/weights/0" + pointer], answer)

    with case("a pruned job reports what is alive, tells its events, and its canonical spec can be sent again"):
        job = d.wait_job(d.submit(**PRUNED)["id"])
        curves = d.series(job["id"])
        equal(curves["prune_alive"][1] > curves["prune_alive"][2] > curves["prune_alive"][3] - 1e-9, True, curves["prune_alive"])
        check(abs(curves["prune_alive"][3] - 0.2) < 1e-3, curves["prune_alive"])
        equal(sorted(m for m in curves if m.startswith("prune_alive/")), ["prune_alive/" + layer for layer in LAYERS])
        check("prune_shed" in curves, list(curves))
        log = c.get(f"/v1/jobs/{job['id']}/logs?tail=200").body.decode()
        check("magnitude: before step" in log and "are zero (80.0" in log, log)
        check("begin" in job["weights"][0] and "initial" in job["weights"][0], job["weights"])
        again = d.submit(dataset="glyphs", model=job["model"], weights=job["weights"], train=job["train"])
        equal(again["weights"], job["weights"])
        d.wait_job(again["id"])

    with case("the export has the zeros and the masks; a deployment of it answers"):
        ckpt = c.get(f"/v1/jobs/{job['id']}/checkpoints").json["items"]
        newest = max(ckpt, key=lambda k: k["epoch"])
        meta, tensors = safetensors(c.get(f"/v1/checkpoints/{newest['id']}/file").body)
        for layer in LAYERS:
            zeros, dead = zeros_and_masks(tensors, layer + ".weight")
            equal(zeros, dead, layer)
            equal(len(dead) - sum(dead), max(round(len(dead) * 0.2), 1), layer)
        c.get(f"/v1/checkpoints/{newest['id']}/file?format=onnx")
        d.deploy("pruned", job["id"])
        answer = c.post("/v1/deployments/pruned/classify", png(32, 32, lambda x, y: (x, y, 0)), headers={"Content-Type": "image/png"}).json
        check(answer, answer)

    with case("the layers of a checkpoint: what is alive, the kernels with what was removed, and the same from `wasd describe`"):
        layers = c.get(f"/v1/checkpoints/{newest['id']}/layers").json
        equal([l["name"] for l in layers["layers"]], LAYERS)
        for l in layers["layers"]:
            dead = zeros_and_masks(tensors, l["name"] + ".weight")[1]
            equal((l["weights"], l["alive"], l["zeros"], l["masks"]), (len(dead), len(dead) - sum(dead), sum(dead), ["magnitude"]), l["name"])
        equal((layers["weights"], layers["alive"]), tuple(sum(l[key] for l in layers["layers"]) for key in ("weights", "alive")))
        whole = c.get(f"/v1/checkpoints/{newest['id']}/layers/conv2?outputs=16&inputs=6").json
        equal((whole["shape"], whole["output"], whole["input"]), ([16, 6, 5, 5], 0, 0))
        equal([v is None for v in whole["weights"]], zeros_and_masks(tensors, "conv2.weight")[1])
        part = c.get(f"/v1/checkpoints/{newest['id']}/layers/conv2?output=3&outputs=1&input=2&inputs=2").json
        equal(part["weights"], whole["weights"][(3 * 6 + 2) * 25:(3 * 6 + 4) * 25])
        c.get(f"/v1/checkpoints/{newest['id']}/layers/conv2?output=16", want=400)
        c.get(f"/v1/checkpoints/{newest['id']}/layers/relu", want=404)
        url = ("--url", f"127.0.0.1:{d.port}")
        told = json.loads(wasd("describe", job["id"], "--checkpoint", newest["id"], "--json", *url))
        equal(told, layers | {"checkpoint": newest["id"], "job": job["id"], "epoch": newest["epoch"], "step": newest["step"]})
        best = c.get(f"/v1/jobs/{job['id']}").json["best"]["checkpoint"]
        equal(json.loads(wasd("describe", job["id"], "--json", *url))["checkpoint"], best)
        table = wasd("describe", newest["id"], *url).splitlines()
        equal([line.split()[0] for line in table[4:]], LAYERS)
        equal(table[4].split(), ["conv1", "conv", "6x3x5x5", "456", "450", "90", "20.0", "magnitude"])
        check("no job" in wasd("describe", "alexnet", *url, rc=1), "neither a network nor a job")
        plain = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was=False, train={"epochs": 1})["id"])["id"]
        rows = json.loads(wasd("describe", plain, "--json", *url))["layers"]
        equal([(l["alive"] + l["zeros"], l["masks"]) for l in rows], [(math.prod(l["shape"]), []) for l in rows])

    with case("a job whose network becomes smaller: log, curves, layers, answers and files are of the smaller one"):
        structured = {"type": "structured", "end": 1, "every": 2, "round_to": 1, "remove": "train"}
        small = d.wait_job(d.submit(**dict(PRUNED, weights=[structured]))["id"])
        check("the network lost" in c.get(f"/v1/jobs/{small['id']}/logs?tail=200").body.decode(), "the log tells the surgery")
        curves = d.series(small["id"])
        equal([curves["structured_alive"][1] < 1, curves["structured_alive"][2], curves["structured_macs"][3]], [True, 1, 1], curves["structured_alive"])
        kept = max(c.get(f"/v1/jobs/{small['id']}/checkpoints").json["items"], key=lambda k: k["epoch"])
        layers = c.get(f"/v1/checkpoints/{kept['id']}/layers").json
        equal([(l["name"], l["shape"][:2]) for l in layers["layers"]], [("conv1", [3, 3]), ("conv2", [8, 3]), ("f1", [60, 200]), ("f2", [42, 60]), ("f3", [10, 42])])
        meta, tensors = safetensors(c.get(f"/v1/checkpoints/{kept['id']}/file").body)
        equal(tensors["f2.weight"][1], [42, 60])
        equal(json.loads(meta["model"])["name"], "lenet-slim")
        c.get(f"/v1/checkpoints/{kept['id']}/file?format=onnx")
        d.deploy("small", small["id"])
        check(c.post("/v1/deployments/small/classify", png(32, 32, lambda x, y: (x, y, 0)), headers={"Content-Type": "image/png"}).json, "it answers")
        answer = c.post("/v1/jobs", dict(PRUNED, weights=[structured, {"type": "magnitude"}]), want=422).json
        equal([e["pointer"] for e in answer["errors"]], ["/weights/0/remove"], answer)
        both = d.wait_job(d.submit(**dict(PRUNED, weights=[dict(structured, remove="serve"), {"type": "magnitude", "end": 2}]))["id"])
        check("prune_shed" in d.series(both["id"]), "two strategies with metrics of the same names")

    with case("the form has every strategy with its options, and shows a refusal at the option"), Browser() as b:
        b.open(f"http://127.0.0.1:{d.port}/")
        b.wait("[...document.querySelectorAll('button')].find((n) => n.textContent === 'New job' && !n.disabled)?.click(); return document.querySelector('#job-dialog').open", "the form")
        names = [s["type"] for s in c.get("/v1/capabilities").json["strategies"] if s["type"] != "was"]
        b.shows("return [...document.querySelectorAll('#strategies-rows [type=checkbox][name]')].map((n) => n.name)", ["strategy_" + name for name in names])
        set_ = """const label = [...document.querySelectorAll('#strategies-rows fieldset.mixture:not([hidden]) label')].find((l) => l.textContent.startsWith(arguments[0]));
            label.querySelector('input, select').value = arguments[1];"""
        b.run("""const form = document.querySelector('#job-form'), f = form.elements;
            for (const more of form.querySelectorAll('details:not([hidden])')) more.open = true;
            f.arch.value = 'lenet'; f.arch.dispatchEvent(new Event('change')); f.epochs.value = 1; f.was.value = 'off'; f.strategy_magnitude.click();""")
        b.run(set_, "sparsity", "0.7")
        b.run(set_, "scope", "global")
        b.run(set_, "end", "9")
        b.click("#job-form [type=submit]")
        check("1 epochs" in b.wait("return document.querySelector('#strategies-rows .fault')?.textContent", "the fault"), "the fault says why")
        b.run(set_, "end", "")
        b.click("#job-form [type=submit]")
        b.wait("return !document.querySelector('#job-dialog').open", "the job to be taken")
        sent = c.get("/v1/jobs").json["items"][0]
        equal([(w["type"], w["sparsity"], w["scope"], "end" in w) for w in sent["weights"]], [("magnitude", 0.7, "global", False)])
        d.wait_job(sent["id"])
        b.wait("return [...document.querySelectorAll('#jobs-table small, #jobs-table td, #jobs-table span')].some((n) => n.textContent.includes('magnitude 70 %'))", "what forms the weights")

finish()
