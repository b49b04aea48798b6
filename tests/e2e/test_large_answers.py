#!/usr/bin/python3
"""Answers for many images and classes: each arrives complete, with the numbers of small requests, and the inference process survives."""
import array, base64, math, random

from lib import Daemon, case, check, equal, finish, noise_png

CLASSES, IMAGES, PART = 1025, 256, 64          # a network is given at most 64 images at a time
NET = {"name": "wide", "layers": [{"type": "conv", "name": "conv", "out": 4, "kernel": 3, "bias": False}, {"type": "relu"}, {"type": "maxpool", "kernel": 8},
                                  {"type": "flatten"}, {"type": "linear", "name": "head", "out": "classes"}]}
NAMES = [f"class {i:04} of {CLASSES}" for i in range(CLASSES)]
r = random.Random(5)


def floats(*shape):
    return "F32", list(shape), array.array("f", (r.uniform(-1, 1) for _ in range(math.prod(shape)))).tobytes()


with Daemon() as d:
    c = d.client
    d.import_network("wide", NET, {"conv.weight": floats(4, 3, 3, 3), "head.weight": floats(CLASSES, 64), "head.bias": floats(CLASSES)}, NAMES, [3, 32, 32])
    process = d.engines("infer")
    images = [base64.b64encode(noise_png(i)).decode() for i in range(IMAGES)]

    def classify(some, query=""):
        return c.post("/v1/deployments/wide/classify" + query, {"images": some}, want=200).json["results"]

    with case("logits of 256 images and 1,025 classes, as in four requests and as one by one"):
        for _ in range(6):                     # more than an earlier daemon had patience for
            all_at_once = classify(images, "?logits=1")
        equal([len(one["logits"]) for one in all_at_once], [CLASSES] * IMAGES)
        equal(all_at_once, [one for i in range(0, IMAGES, PART) for one in classify(images[i:i + PART], "?logits=1")])
        for i in range(0, IMAGES, 17):
            one = classify([images[i]], "?logits=1")[0]
            check(max(abs(a - b) for a, b in zip(one["logits"], all_at_once[i]["logits"])) < 1e-4, f"image {i}: its logits")   # sums of 64 terms of at most 3, in a different order
            top = max(range(CLASSES), key=lambda k: one["logits"][k])
            equal((one["top"][0]["index"], one["top"][0]["label"]), (top, NAMES[top]), f"image {i}")

    with case("the 1,000 most likely classes of 256 images: more than one frame of names, and the numbers of small requests"):
        many = classify(images, "?k=1000")
        equal([len(one["top"]) for one in many], [1000] * IMAGES)
        for i in range(0, IMAGES, PART):
            equal([{"top": one["top"][:5]} for one in many[i:i + PART]], classify(images[i:i + PART]), f"images from {i}")

    with case("the inference protocol: a whole batch"):
        batch = c.get("/v2/models/wide/config").json["max_batch_size"]
        pixels = [r.randrange(2) for _ in range(batch * 3072)]      # as text, below the maximum body size
        outputs = c.post("/v2/models/wide/infer", {"inputs": [{"name": "input", "shape": [batch, 3, 32, 32], "datatype": "FP32", "data": pixels}]}, want=200).json["outputs"]
        equal([(o["name"], o["shape"], len(o["data"])) for o in outputs], [(name, [batch, CLASSES], batch * CLASSES) for name in ("logits", "probs")])

    with case("a single process answered everything"):
        equal(d.engines("infer"), process)
        equal(c.get("/v1/system").json["serving"]["restarts"], 0)

finish()
