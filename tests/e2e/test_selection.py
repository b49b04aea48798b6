#!/usr/bin/python3
"""What a job takes of a data set and what it makes of its images: the normalisation that a job chooses is the one that its deployments use."""
import base64, json, random

from lib import Daemon, case, check, equal, finish, noise_png, png

SIDE = 32


def rule(meta):
    """mean and std of each channel, from the properties of a model."""
    text = meta["properties"]["pixels"].split(" for a pixel")[0]
    mean, std = text.split("mean = ")[1].split(", std = ")
    return json.loads(mean), json.loads(std)


def infer(d, model, name, datatype, data, shape):
    body = {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]}
    out = d.client.post(f"/v2/models/{model}/infer", body, want=200).json["outputs"]
    return next(o["data"] for o in out if o["name"] == "logits")


def run(d):
    d.glyphs(train=400, test=50)
    with case("normalize: a job by the set's own moments, served as trained"):
        job = d.submit(dataset="glyphs", model={"arch": "lenet"}, data={"normalize": "set"}, train={"epochs": 1, "batch": 50})
        equal(job["data"]["normalize"], "set")
        d.wait_job(job["id"])
        d.deploy("own", job["id"])
        meta = d.client.get("/v2/models/own").json
        mean, std = rule(meta)
        check(len(mean) == len(std) == 3 and all(0 < m < 1 for m in mean) and all(0 < s < 0.5 for s in std), meta["properties"]["pixels"])
        shown = d.client.get("/v1/deployments/own").json["normalize"]
        check(max(abs(a - b) for a, b in zip(shown["mean"] + shown["std"], mean + std)) < 1e-8, f"{shown}")

    with case("normalize: FP32 by the rule, UINT8 as JSON and as bytes, and a PNG file give the same logits"):
        r = random.Random(5)
        planes = [[r.randrange(256) for _ in range(SIDE * SIDE)] for _ in range(3)]
        pixels = [v for plane in planes for v in plane]
        shape = [1, 3, SIDE, SIDE]
        numbers = [(v / 255 - shown["mean"][c]) / shown["std"][c] for c in range(3) for v in planes[c]]
        fp32 = infer(d, "own", "input", "FP32", numbers, shape)
        picture = png(SIDE, SIDE, lambda x, y: bytes(planes[c][y * SIDE + x] for c in range(3)))
        uint8 = infer(d, "own", "input", "UINT8", pixels, shape)
        equal(infer(d, "own", "image", "BYTES", [base64.b64encode(picture).decode()], [1]), uint8, "PNG")
        head = json.dumps({"inputs": [{"name": "input", "shape": shape, "datatype": "UINT8", "parameters": {"binary_data_size": len(pixels)}}]}).encode()
        reply = d.client.post("/v2/models/own/infer", head + bytes(pixels), headers={"Inference-Header-Content-Length": str(len(head))}, want=200)
        equal(next(o["data"] for o in reply.json["outputs"] if o["name"] == "logits"), uint8, "bytes")
        check(max(abs(a - b) for a, b in zip(fp32, uint8)) < 1e-4, f"{fp32} and {uint8}")

    with case("normalize: numbers that do not fit the images are refused before the job waits"):
        for how, pointer in (({"mean": [0.5, 0.5], "std": [0.5]}, "/data/normalize/mean"), ({"mean": [0.5]}, "/data/normalize/std"), ("whole", "/data/normalize"),
                             ({"mean": [0.5], "std": [0]}, "/data/normalize/std/0")):
            reply = d.client.post("/v1/jobs", dict(dataset="glyphs", model={"arch": "lenet"}, data={"normalize": how}), want=422)
            equal([e["pointer"] for e in reply.json["errors"]], [pointer], json.dumps(how))


def classes(d):
    with case("classes: a job on three of ten, in its own order, up to the answers of its deployment"):
        job = d.submit(dataset="glyphs", model={"arch": "lenet"}, data={"classes": ["7", 2, "9"], "val_fraction": 0.2}, train={"epochs": 1, "batch": 20})
        d.wait_job(job["id"])
        d.deploy("three", job["id"])
        equal(d.client.get("/v1/deployments/three").json["classes"], ["7", "2", "9"])
        top = d.client.post("/v1/deployments/three/classify", noise_png(1), want=200).json["results"][0]["top"]
        check(all(t["label"] == ["7", "2", "9"][t["index"]] for t in top), f"{top}")
        report = d.client.get(f"/v1/jobs/{job['id']}/report?wait=60s").json
        equal(report["classes"], ["7", "2", "9"])

    with case("classes: what the data set does not have is refused before the job waits"):
        for kept, pointer in ((["7", "cat"], "/data/classes/1"), ([7, "7"], "/data/classes/1"), ([1, 10], "/data/classes/1"), (["7"], "/data/classes"), ([1, 1.5], "/data/classes/1")):
            reply = d.client.post("/v1/jobs", dict(dataset="glyphs", model={"arch": "lenet"}, data={"classes": kept}), want=422)
            equal([e["pointer"] for e in reply.json["errors"]], [pointer], json.dumps(kept))
        reply = d.client.post("/v1/jobs", dict(dataset="glyphs", model={"arch": "lenet"}, data={"classes": ["7", "2"]}, train={"class_weights": [1, 2, 3]}), want=422)
        equal([e["pointer"] for e in reply.json["errors"]], ["/train/class_weights"])


with Daemon() as d:
    run(d)
    classes(d)
finish()
