#!/usr/bin/python3
"""The mode slim, the network without its dead channels: served, switched, exported and imported again with the answers of aom."""
import hashlib, json, os, subprocess

from lib import BUILD, PATIENCE, Daemon, case, check, directory, equal, finish, png, safetensors
from webdriver import Browser

# Of the last layer's 840 weights 8 are left, so that most of the 84 units before it are read by nobody.
PRUNED = {"dataset": "glyphs", "model": {"arch": "lenet"}, "weights": [{"type": "magnitude", "sparsity": 0.99, "begin": 0.5, "end": 1, "every": 2}],
          "train": {"epochs": 2, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.001}}}
IMAGES = [png(32, 32, lambda x, y, i=i: (x * 7 * i % 256, y * 5 % 256, (x ^ y) * 3 % 256)) for i in range(1, 4)]


def wasd(*args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=60 * PATIENCE)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout + p.stderr


def answers(c, name, query=""):
    """The logits of every image, the mode and the multiply-adds."""
    out = [c.post(f"/v1/deployments/{name}/classify?logits=true{query}", image, headers={"Content-Type": "image/png"}).json for image in IMAGES]
    return [[v for v in a["results"][0]["logits"]] for a in out], out[0]["mode"], out[0]["macs"]


def blob(c, data):
    sha256 = hashlib.sha256(data).hexdigest()
    c.put(f"/v1/blobs/{sha256}", data, want=(200, 201))
    return sha256


def same(a, b):
    largest = max(abs(v) for row in a for v in row)
    worst = max(abs(x - y) for p, q in zip(a, b) for x, y in zip(p, q))
    check(largest > 0 and worst <= 1e-5 * largest, f"logits of up to {largest} differ by {worst}")


with Daemon() as d:
    c = d.client
    d.glyphs(train=200, test=50)
    job = d.wait_job(d.submit(**PRUNED, on_complete={"deploy": {"name": "reader", "mode": "slim"}})["id"])["id"]
    served = d.wait_deployment("reader")["checkpoint"]
    ckpt = c.get(f"/v1/checkpoints/{served}").json

    with case("a completed job is deployed in mode slim; aom and slim give the same answers, slim with fewer multiply-adds"):
        slim, mode, few = answers(c, "reader")
        equal(mode, "slim")
        aom, mode, all_of_them = answers(c, "reader", "&mode=aom")
        equal(mode, "aom")
        same(aom, slim)
        check(few < all_of_them, f"{few} of {all_of_them}")

    with case("switched live, by HTTP and by the command line, and for one request in every place that names a mode"):
        c.put("/v1/deployments/reader/mode", {"mode": "aom"})
        same(answers(c, "reader")[0], slim)
        equal(answers(c, "reader", "&mode=slim")[1:], ("slim", few))
        url = ("--url", f"127.0.0.1:{d.port}")
        check("aom -> slim" in wasd("mode", "reader", "slim", *url), "the switch")
        check("slim" in wasd("mode", "reader", *url), "the list")
        equal(answers(c, "reader")[1], "slim")
        equal(c.get("/v2/models/reader").json["properties"]["was_mode"], "slim")
        equal(c.get("/v2/models/reader/versions/1-slim").status, 200)
        c.put("/v1/deployments/reader/traffic", {"split": {"aom": 1, "slim": 1}})
        equal(sorted(c.post("/v1/deployments/reader/classify", IMAGES[0], headers={"Content-Type": "image/png"}).json["mode"] for _ in range(4)), ["aom", "aom", "slim", "slim"])
        c.put("/v1/deployments/reader/traffic", {})

    with case("listed with its cost and the accuracy of aom"):
        modes = {m["name"]: m for m in c.get(f"/v1/checkpoints/{ckpt['id']}/modes").json["items"]}
        equal(sorted(modes), ["aom", "slim"])
        equal((modes["slim"]["kind"], modes["slim"]["macs"], modes["slim"]["val_acc"]), ("slim", few, modes["aom"]["val_acc"]))
        equal(ckpt["info"]["macs"]["slim"], few)
        now = c.get("/v1/deployments/reader/mode").json["bundles"]
        equal((now["slim"]["macs"], now["slim"]["acc"], now["slim"]["bytes"] < now["aom"]["bytes"]), (few, now["aom"]["acc"], True))
        report = c.get(f"/v1/jobs/{job}/report?wait=60s").json
        equal(report["modes"]["slim"]["accuracy"], report["modes"]["aom"]["accuracy"])

    with case("the page offers the mode where it is there, and the download"), Browser() as b:
        b.open(f"http://127.0.0.1:{d.port}/")
        b.wait("return [...document.querySelectorAll('#deployment-cards .mode b')].filter((n) => n.textContent === 'Slim').length === 1", "the card's mode Slim")
        b.run("document.querySelector('#run-checkpoints').open = true")
        b.wait("return [...document.querySelectorAll('#run-checkpoints tbody .files a')].some((a) => !a.hidden && a.textContent === 'ONNX, slim')", "the download")

    with case("exported: ONNX of the smaller network, and its weights as a network of its own, which is deployed again"):
        here = directory()
        file = f"/v1/checkpoints/{ckpt['id']}/file"
        whole, small = (c.get(f"{file}?format=onnx&mode={mode}").body for mode in ("aom", "slim"))
        check(len(small) < 0.8 * len(whole), f"{len(small)} of {len(whole)} bytes")
        out = os.path.join(here, "slim.safetensors")
        wasd("export", ckpt["id"], "--mode", "slim", "--output", out, *url)
        data = open(out, "rb").read()
        equal(data, c.get(f"{file}?mode=slim").body)
        meta, tensors = safetensors(data)
        model = json.loads(meta["model"])
        equal((json.loads(meta["modes"]), model["name"]), (["aom"], "lenet-slim"))
        equal(tensors["f3.weight"][1][1], tensors["f2.weight"][1][0])
        open(os.path.join(here, "model.json"), "w").write(json.dumps(model))
        told = json.loads(wasd("describe", "--model", os.path.join(here, "model.json"), "--json"))
        equal((told["macs"], told["params"]), (few, sum(len(t[2]) // 4 for t in tensors.values())))
        c.post("/v1/deployments", {"name": "small", "source": {"blob": blob(c, data)}}, want=(201, 202))
        d.wait_deployment("small")
        got, mode, macs = answers(c, "small")
        equal((mode, macs), ("aom", few))
        same(slim, got)
        for mode in ("aom", "dom"):
            c.get(f"{file}?mode={mode}", want=400)

    with case("an export of the whole network is imported with its mode slim"):
        again = c.post("/v1/checkpoints", {"blob": blob(c, c.get(file).body)}, want=201).json
        equal([m["name"] for m in c.get(f"/v1/checkpoints/{again['id']}/modes").json["items"]], ["aom", "slim"])

    with case("without dead channels there is no such mode, and the refusal says why"):
        plain = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was=False, train={"epochs": 1})["id"])["id"]
        refused = c.post("/v1/deployments", {"name": "none", "source": {"job": plain}, "mode": "slim"}, want=422).json
        equal((refused["code"], refused["errors"][0]["pointer"]), ("unsupported", "/mode"))
        check("no dead channels" in refused["detail"], refused["detail"])
        other = c.get(f"/v1/jobs/{plain}/checkpoints").json["items"][0]["id"]
        for format in ("onnx", "safetensors"):
            c.get(f"/v1/checkpoints/{other}/file?format={format}&mode=slim", want=422)
        d.deploy("plain", plain)
        equal(c.put("/v1/deployments/plain/mode", {"mode": "slim"}, want=409).json["code"], "bundle_not_ready")
        refused = c.put("/v1/deployments/plain/traffic", {"shadow": {"mode": "slim"}}, want=422).json
        equal(refused["errors"][0]["pointer"], "/shadow/mode")
        answer = c.post("/v1/jobs", {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": False, "on_complete": {"deploy": {"name": "x", "mode": "slim"}}}, want=422).json
        equal([e["pointer"] for e in answer["errors"]], ["/on_complete/deploy/mode"])

finish()
