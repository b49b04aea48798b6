#!/usr/bin/python3
"""A run whose layers share templates, by HTTP: a smaller checkpoint, which is served, described, exported and imported as any other."""
import hashlib, random

from lib import Daemon, case, check, equal, finish, safetensors

CONV = lambda name, **more: [{"type": "conv", "name": name, "bias": False, **more}, {"type": "batchnorm"}, {"type": "relu"}]
NET = {"name": "net", "layers": [*CONV("a", out=16), {"type": "maxpool", "kernel": 2}, *CONV("b", out=32), *CONV("c"), {"type": "maxpool", "kernel": 2}, *CONV("d"), *CONV("e"), {"type": "globalpool"},
                                 {"type": "flatten"}, {"type": "linear", "name": "fc", "out": "classes"}]}
SPEC = {"dataset": "glyphs", "model": NET, "train": {"epochs": 3, "batch": 32, "seed": 3, "precision": "fp32-strict"}}
SHARED = {"type": "superweights", "budget": 0.5, "bins": 1, "search_epochs": 1}

with Daemon() as d:
    c = d.client
    d.glyphs(train=200, test=50)
    checkpoint = lambda job: c.get(f"/v1/jobs/{job}/checkpoints").json["items"][0]

    with case("a budget below one template for each bank is refused, with the least possible; so is a search as long as the run"):
        for member, value in (("budget", 0.1), ("search_epochs", 3)):
            p = c.post("/v1/jobs", {**SPEC, "weights": [{**SHARED, member: value}]}, want=(400, 422)).json
            equal(p["errors"][0]["pointer"], f"/weights/0/{member}")
            check(member != "budget" or "or more" in p["errors"][0]["detail"], p)

    plain = checkpoint(d.wait_job(d.submit(**SPEC, was=False)["id"])["id"])
    job = d.wait_job(d.submit(**SPEC, weights=[SHARED])["id"])["id"]
    ckpt = checkpoint(job)

    with case("the checkpoint has templates instead of weights and momentum, and so fewer bytes"):
        meta, tensors = safetensors(c.get(f"/v1/checkpoints/{ckpt['id']}/file?format=wasd").body)
        equal((meta["format"], meta["composed"]), ("wasd-checkpoint-3", "superweights"))
        check("b.weight" not in tensors and "weights.superweights.bank" in tensors, tensors.keys())
        check(ckpt["bytes"] < 0.65 * plain["bytes"], f"{ckpt['bytes']} beside {plain['bytes']} bytes")
        series = d.series(job)
        check(0.45 < series["superweights_share"][3] <= 0.5, series["superweights_share"])
        check(1 <= series["superweights_clusters"][3] <= 5, series["superweights_clusters"])

    with case("served as its export is, which has the weights; described; the start of a plain job"):
        noise = random.Random(1)
        x = [round(noise.uniform(-1, 1), 6) for _ in range(3072)]
        body = {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": x}], "outputs": [{"name": "logits"}]}
        logits = lambda name: c.post(f"/v2/models/{name}/infer", body).json["outputs"][0]["data"]
        c.post("/v1/deployments", {"name": "shared", "source": {"checkpoint": ckpt["id"]}}, want=(201, 202))
        d.wait_deployment("shared")
        whole, stored = (c.get(f"/v1/checkpoints/{ckpt['id']}/file{how}").body for how in ("", "?format=wasd"))
        equal(safetensors(whole)[1]["b.weight"][1], [32, 16, 3, 3])
        for name, data in (("whole", whole), ("stored", stored)):
            sha256 = hashlib.sha256(data).hexdigest()
            c.put(f"/v1/blobs/{sha256}", data, want=201)
            c.post("/v1/deployments", {"name": name, "source": {"blob": sha256}}, want=(201, 202))
            d.wait_deployment(name)
            equal(logits(name), logits("shared"), name)
        layers = c.get(f"/v1/checkpoints/{ckpt['id']}/layers").json
        equal([row["weights"] for row in layers["layers"]], [432, 4608, 9216, 9216, 9216, 320])
        equal(layers["share"], 1)
        check(c.get(f"/v1/checkpoints/{ckpt['id']}/file?format=onnx").body.startswith(b"\x08\x07\x12\x04wasd"), "an ONNX model")
        d.wait_job(d.submit(**SPEC, was=False, init_from=ckpt["id"])["id"])

finish()
