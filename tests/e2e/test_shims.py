#!/usr/bin/python3
"""KServe v1 (:predict) and TorchServe (/predictions): the forms of request and answer, with the numbers that the network must give."""
import base64, json, math, os, random, struct, subprocess

from lib import Daemon, case, check, directory, equal, finish, multipart, png

NET = {"layers": [{"type": "flatten"}, {"type": "linear", "out": "classes"}]}
CLASSES, SHAPE = ["cat", "dog", "a \"bird\"", "eel", "fox", "gnu"], [3, 2, 2]
r = random.Random(3)
W = [[r.uniform(-1, 1) for _ in range(12)] for _ in CLASSES]
B = [r.uniform(-1, 1) for _ in CLASSES]
PIXELS = [[(r.randrange(256), r.randrange(256), r.randrange(256)) for _ in range(4)] for _ in range(3)]
PICTURES = [png(2, 2, lambda x, y, p=p: p[2 * y + x]) for p in PIXELS]
# each picture as [c][h][w] of the network's numbers
TENSORS = [[[[(p[2 * y + x][c] / 255 - 0.5) / 0.5 for x in range(2)] for y in range(2)] for c in range(3)] for p in PIXELS]


def flat(t):
    return [v for plane in t for row in plane for v in row]


def expected(t):
    z = [sum(w * v for w, v in zip(row, flat(t))) + b for row, b in zip(W, B)]
    e = [math.exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def near(got, want, what=""):
    check(len(got) == len(want) and all(abs(g - w) < 1e-5 for g, w in zip(got, want)), f"{what}: got {got}, want {want}")


def b64(data):
    return base64.b64encode(data).decode()


with Daemon() as d:
    c = d.client
    d.import_network("reader", NET, {"linear1.weight": ("F32", [6, 12], struct.pack("<72f", *sum(W, []))), "linear1.bias": ("F32", [6], struct.pack("<6f", *B))}, CLASSES, SHAPE)
    every = [expected(t) for t in TENSORS]

    def predict(instances, want=200, path="/v1/models/reader:predict", **kw):
        return c.post(path, {"instances": instances}, want=want, **kw)

    with case("KServe v1: numbers, nested or flat, and pictures give the network's probabilities"):
        forms = {"nested": TENSORS, "flat": [flat(t) for t in TENSORS], "b64": [{"b64": b64(p)} for p in PICTURES], "named": [{"image_bytes": {"b64": b64(p)}} for p in PICTURES],
                 "a URI": [{"b64": "data:image/png;base64," + b64(p)} for p in PICTURES]}
        for form, instances in forms.items():
            answer = predict(instances)
            equal(set(answer.json), {"predictions"}, form)
            equal((answer.headers["Content-Type"], answer.headers["WASD-Mode"]), ("application/json", "aom"), form)
            for got, want in zip(answer.json["predictions"], every, strict=True):
                near(got, want, form)
        near(predict(TENSORS[:1]).json["predictions"][0], every[0], "one")
        near(predict(TENSORS[:1], path="/v1/models/reader@aom:predict").json["predictions"][0], every[0], "an alias")
        near(c.post("/v1/models/reader:predict", {"signature_name": "serving_default", "instances": TENSORS[:1]}).json["predictions"][0], every[0], "other members")
        near(c.request("POST", "/v1/models/reader:predict", json.dumps({"instances": TENSORS[:1]}).encode(), want=200).json["predictions"][0], every[0], "without a Content-Type")

    with case("KServe v1: readiness of a deployment, beside the registry of models"):
        equal(c.get("/v1/models/reader").json, {"name": "reader", "ready": True})
        c.get("/v1/models/none", want=404)
        c.post("/v1/models", {"name": "reader", "note": "registered"}, want=201)
        equal(c.get("/v1/models/reader").json["note"], "registered")
        c.delete("/v1/models/reader")

    with case("KServe v1: refusals say what is wrong, as application/json with the member error"):
        rows = [(404, "no deployment", "/v1/models/none:predict", {"instances": TENSORS}),
                (400, "instances", "/v1/models/reader:predict", {"inputs": TENSORS}),
                (400, "no element", "/v1/models/reader:predict", {"instances": []}),
                (400, "base64", "/v1/models/reader:predict", {"instances": [{"b64": "%"}]}),
                (400, "every instance", "/v1/models/reader:predict", {"instances": ["text"]}),
                (400, "every instance", "/v1/models/reader:predict", {"instances": [{"b64": b64(PICTURES[0])}, TENSORS[0]]}),
                (400, "[3][2][2]", "/v1/models/reader:predict", {"instances": TENSORS[0]}),
                (400, "instances", "/v1/models/reader:predict", {"instances": [flat(TENSORS[0])[:-1]]}),
                (400, "instances", "/v1/models/reader:predict", {"instances": [TENSORS[0][:2]]}),
                (400, "instances", "/v1/models/reader:predict", {"instances": [TENSORS[0], [1]]}),
                (400, "instances", "/v1/models/reader:predict", {"instances": [[[["x", 1], [1, 1]]] * 3]}),
                (400, "at most", "/v1/models/reader:predict", {"instances": [flat(TENSORS[0])] * 1000}),
                (400, "neither PNG nor JPEG", "/v1/models/reader:predict", {"instances": [{"b64": b64(b"nothing")}]}),
                (400, "", "/v1/models/reader:predict", {"instances": [{"b64": b64(PICTURES[0][:60])}]}),
                (400, "neither aom nor dom", "/v1/models/reader:predict?mode=x", {"instances": TENSORS}),
                (409, "", "/v1/models/reader:predict?mode=dom", {"instances": TENSORS})]
        for status, words, path, body in rows:
            reply = c.post(path, body, want=None)
            equal((reply.status, reply.headers["Content-Type"]), (status, "application/json"), f"{body}: {reply}")
            check(words in reply.json["error"], reply)
        for body in (b"{", b'{"instances":[[1,2', b'{"instances":[[1,2]]} x', b""):
            equal(c.request("POST", "/v1/models/reader:predict", body, {"Content-Type": "application/json"}).status, 400, repr(body))
        equal(c.get("/v1/models/reader:predict", want=405).headers["Allow"], "POST")

    def best(p, k=5):
        return sorted(zip(CLASSES, p), key=lambda item: -item[1])[:k]

    def is_best(answer, p, k=5):
        equal(list(answer), [label for label, _ in best(p, k)])
        near(list(answer.values()), [v for _, v in best(p, k)])

    with case("TorchServe: pictures raw, as a form and in JSON; tensors; the likeliest classes in order"):
        for method in ("POST", "PUT"):
            for kind in ({}, {"Content-Type": "image/png"}, {"Content-Type": "application/octet-stream"}, {"Content-Type": "application/x-www-form-urlencoded"}):
                is_best(c.request(method, "/predictions/reader", PICTURES[0], kind, want=200).json, every[0])
        kind, body = multipart([("data", "x.png", None, PICTURES[1])])
        is_best(c.request("POST", "/predictions/reader", body, {"Content-Type": kind}, want=200).json, every[1])
        kind, body = multipart([(f"data{i}", f"{i}.png", None, p) for i, p in enumerate(PICTURES)])
        for got, p in zip(c.request("POST", "/predictions/reader", body, {"Content-Type": kind}, want=200).json, every, strict=True):
            is_best(got, p)
        is_best(c.post("/predictions/reader", {"data": b64(PICTURES[2])}).json, every[2])
        is_best(c.post("/predictions/reader", TENSORS[2]).json, every[2])
        is_best(c.post("/predictions/reader", flat(TENSORS[2])).json, every[2])
        is_best(c.post("/predictions/reader/1?k=2", {"instances": TENSORS[:1]}).json, every[0], 2)
        is_best(c.post("/predictions/reader?k=1000", TENSORS[:1]).json, every[0], 6)
        equal(len(c.post("/predictions/reader", TENSORS).json), 3)

    with case("TorchServe: curl as its documents use it"):
        with open(os.path.join(directory(), "kitten.png"), "wb") as f:
            f.write(PICTURES[0])
        for how in (["-T", f.name], ["-F", f"data=@{f.name}"], ["--data-binary", f"@{f.name}"]):
            said = subprocess.run(["curl", "-sS", "--fail-with-body", f"http://127.0.0.1:{d.port}/predictions/reader", *how], capture_output=True, text=True)
            equal(said.returncode, 0, f"{how}: {said}")
            is_best(json.loads(said.stdout), every[0])

    with case("TorchServe: ping, and refusals"):
        equal(c.get("/ping").json, {"status": "Healthy"})
        for status, path, body, kind in ((404, "/predictions/none", PICTURES[0], None), (404, "/predictions/reader/7", PICTURES[0], None), (400, "/predictions/reader", PICTURES[0][:50], None),
                                         (415, "/predictions/reader", b"nothing", None), (400, "/predictions/reader", b"[1,2]", None), (400, "/predictions/reader", b'{"a":1}', None),
                                         (400, "/predictions/reader", b"[[[[1", "application/json"), (400, "/predictions/reader?k=0", PICTURES[0], None), (400, "/predictions/reader", b"", None)):
            reply = c.request("POST", path, body, {"Content-Type": kind} if kind else {})
            equal((reply.status, reply.headers["Content-Type"]), (status, "application/json"), f"{path} {body[:20]}: {reply}")
            check(isinstance(reply.json["error"], str), reply)

    with case("shims: requests are counted like all others"):
        stats = c.get("/v1/deployments/reader/stats").json
        check(stats["requests"] >= 20 and stats["in_flight"] == 0, stats)
finish()
