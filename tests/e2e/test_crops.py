#!/usr/bin/python3
"""A data set with fit=crops: it stores the crop at the centre, and a deployment trained on it answers a picture of another aspect ratio with the
mean of the logits of three crops, counted as three images' multiply-adds, whatever the form of the request."""
import base64, re

from lib import Daemon, case, check, equal, finish, multipart, png, tar

SIDE, LONG = 32, 80


def colour(x, y):
    return x * 3 % 256, (x * y) % 256, 255 - 2 * y


def crop(left, top):
    return png(SIDE, SIDE, lambda x, y: colour(x + left, y + top))


SQUARE, WIDE, TALL = crop(7, 3), png(LONG, SIDE, colour), png(SIDE, LONG, colour)
PARTS = {WIDE: [crop(x, 0) for x in (0, 24, 48)], TALL: [crop(0, y) for y in (0, 24, 48)], SQUARE: [SQUARE]}


def near(got, want, what):
    check(len(got) == len(want) and all(abs(g - w) < 1e-5 for g, w in zip(got, want)), f"{what}: got {got}, want {want}")


with Daemon() as d:
    c = d.client

    def upload(name, fit):
        other = png(SIDE, SIDE, lambda x, y: (x * 8, 9, y * 8))
        return c.put(f"/v1/datasets/{name}?size={SIDE}&fit={fit}&wait=60s",
                     tar([(f"train/a/{i}.png", data) for i, data in enumerate((WIDE, TALL, SQUARE))] + [("train/b/0.png", other), ("test/a/0.png", SQUARE), ("test/b/0.png", other)])).json

    def classify(*pictures, query=""):
        """The answer to the pictures as one form."""
        kind, body = multipart([("image", f"{i}.png", "image/png", p) for i, p in enumerate(pictures)])
        return c.post(f"/v1/deployments/reader/classify?logits=1{query}", body, headers={"Content-Type": kind}).json

    def logits(*pictures):
        return [r["logits"] for r in classify(*pictures)["results"]]

    def mean(picture):
        """What a client computes that cuts the picture itself."""
        parts = [logits(p)[0] for p in PARTS[picture]]
        return [sum(v) / len(parts) for v in zip(*parts)]

    with case("a set with fit=crops stores the crops at the centre"):
        made = upload("pictures", "crops")
        upload("centre", "crop")
        equal((made["fit"], made["options"]["fit"]), ("crops", "crops"))
        for i in range(4):
            stored = [c.get(f"/v1/datasets/{name}/preview?split=train&i={i}").body for name in ("pictures", "centre")]
            equal(*stored, f"training image {i}")
        said = c.put("/v1/datasets/never?fit=tiles", b"x", want=400).json["detail"]
        check(all(fit in said for fit in ("fit", "squeeze", "crop", "crops", "tiles")), said)

    with case("the checkpoint records it, and the deployment's metadata say it"):
        job = d.submit(dataset="pictures", model={"arch": "lenet"}, was=False, train={"epochs": 2, "batch": 2}, data={"val_fraction": 0})["id"]
        d.wait_job(job)
        equal(d.deploy("reader", job, follow="latest")["fit"], "crops")
        equal(c.get("/v2/models/reader").json["properties"]["fit"], "crops")
        macs = c.get("/v1/deployments/reader/mode").json["bundles"]["aom"]["macs"]

    with case("a picture of another aspect ratio gets the mean of three crops; a square is computed once"):
        for picture, n, what in ((WIDE, 3, "wide"), (TALL, 3, "tall"), (SQUARE, 1, "square")):
            a = classify(picture)
            near(a["results"][0]["logits"], mean(picture), what)
            equal((a["macs"], a["batch"]), (n * macs, 1), what)
        check(max(abs(a - b) for a, b in zip(mean(WIDE), logits(PARTS[WIDE][1])[0])) > 1e-3, "the crop at the centre alone answers otherwise")
        top = c.post("/v1/deployments/reader/classify?k=1", WIDE, headers={"Content-Type": "image/png"}).json["results"][0]["top"][0]
        equal(top["index"], max(range(2), key=mean(WIDE).__getitem__), "by the engine's own list of classes")

    with case("several pictures of one request: each has its own answer, macs is their mean"):
        a = classify(SQUARE, WIDE, TALL, SQUARE)
        for r, picture in zip(a["results"], (SQUARE, WIDE, TALL, SQUARE)):
            near(r["logits"], mean(picture), "in company")
        equal((a["macs"], a["batch"]), (2 * macs, 4))

    with case("a request in several batches"):
        c.request("PATCH", "/v1/deployments/reader", {"batching": {"max_batch": 2, "max_queue_delay_us": 0}}, want=200)
        pictures = [SQUARE, WIDE, WIDE, TALL, SQUARE]
        a = classify(*pictures)
        for r, picture in zip(a["results"], pictures):
            near(r["logits"], mean(picture), "in parts")
        equal((a["macs"], a["batch"]), (round(macs * 11 / 5), 2))
        c.request("PATCH", "/v1/deployments/reader", {"batching": None}, want=200)

    with case("the other forms of a request"):
        b64 = base64.b64encode(WIDE).decode()
        r = c.post("/v2/models/reader/infer", {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [b64]}], "outputs": [{"name": "logits"}]}).json
        near(r["outputs"][0]["data"], mean(WIDE), "/v2")
        equal(r["parameters"]["was_macs"], 3 * macs)
        probs = [p["p"] for p in sorted(classify(WIDE)["results"][0]["top"], key=lambda p: p["index"])]
        near(c.post("/v1/models/reader:predict", {"instances": [{"b64": b64}]}).json["predictions"][0], probs, ":predict")
        near([v for _, v in sorted(c.put("/predictions/reader", WIDE).json.items())], probs, "/predictions")
        pixels = [0.5] * (3 * SIDE * SIDE)
        r = c.post("/v2/models/reader/infer", {"inputs": [{"name": "input", "shape": [1, 3, SIDE, SIDE], "datatype": "FP32", "data": pixels}]}).json
        equal(r["parameters"]["was_macs"], macs, "a tensor is what the network sees")

    with case("statistics count images that were asked about, and multiply-adds that were computed"):
        def counted():
            text = c.get("/metrics").body.decode()
            return [float(re.search(rf'^{name}{{deployment="reader",mode="aom"}} (\S+)$', text, re.M).group(1)) for name in ("wasd_infer_macs_total", "wasd_infer_batch_size_sum")]
        before = counted()
        classify(SQUARE, WIDE)
        after = counted()
        equal([b - a for a, b in zip(before, after)], [4 * macs, 2])

finish()
