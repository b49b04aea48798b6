#!/usr/bin/python3
"""Modes of several widths: trained by a job, listed, deployed, switched live under requests, exported and deployed again as networks of their own; and the mode that
chooses among them for every image."""
import hashlib, json, os, subprocess, threading

from lib import BUILD, PATIENCE, Client, Daemon, case, check, directory, equal, finish, png, safetensors

CONV = {"type": "conv", "out": 32, "bias": False}
SLICED = {"dataset": "glyphs", "weights": [{"type": "slices", "teacher": "largest"}], "train": {"epochs": 2, "batch": 50, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.003}},
          "model": {"layers": [{"type": "avgpool", "kernel": 2}, CONV, {"type": "batchnorm"}, {"type": "relu"}, {"type": "maxpool", "kernel": 2}, CONV, {"type": "batchnorm"},
                               {"type": "relu"}, {"type": "globalpool"}, {"type": "flatten"}, {"type": "linear", "out": "classes"}]}}
WIDTHS = ["width:0.25", "width:0.5", "width:0.75"]
IMAGES = [png(32, 32, lambda x, y, i=i: (x * 7 * i % 256, y * 5 % 256, (x ^ y) * 3 % 256)) for i in range(1, 4)]


def wasd(*args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=60 * PATIENCE)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout + p.stderr


def answer(c, name, query=""):
    """The logits of every image, and the mode."""
    out = [c.post(f"/v1/deployments/{name}/classify?logits=true{query}", image, headers={"Content-Type": "image/png"}).json for image in IMAGES]
    return [a["results"][0]["logits"] for a in out], out[0]["mode"]


def blob(c, data):
    sha256 = hashlib.sha256(data).hexdigest()
    c.put(f"/v1/blobs/{sha256}", data, want=(200, 201))
    return sha256


with Daemon() as d:
    c, url = d.client, ("--url", f"127.0.0.1:{d.port}")
    d.glyphs(train=400, test=100)

    with case("a job without the width is refused, one with it deploys it"):
        said = c.post("/v1/jobs", {**SLICED, "on_complete": {"deploy": {"name": "reader", "mode": "width:0.3"}}}, want=422).json
        equal(said["errors"][0]["pointer"] if "errors" in said else said["pointer"], "/on_complete/deploy/mode")
        job = d.wait_job(d.submit(**SLICED, on_complete={"deploy": {"name": "reader", "mode": "width:0.5"}})["id"])["id"]
        served = d.wait_deployment("reader")["checkpoint"]
        equal(answer(c, "reader")[1], "width:0.5")

    with case("listed with kind, accuracy and cost; every width has metrics of its own"):
        modes = {m["name"]: m for m in c.get(f"/v1/checkpoints/{served}/modes").json["items"]}
        equal(sorted(modes), ["aom", *WIDTHS])
        equal([modes[m]["kind"] for m in WIDTHS], ["width"] * 3)
        macs = [modes[m]["macs"] for m in (*WIDTHS, "aom")]
        equal(macs, sorted(macs))
        series, epoch = d.series(job), c.get(f"/v1/checkpoints/{served}").json["epoch"]
        for m in WIDTHS:
            equal(modes[m]["val_acc"], series[f"val_acc_{m}"][epoch], m)

    with case("switched live under requests: every answer is that of the mode that it names"):
        reference = {m: answer(c, "reader", f"&mode={m}") for m in (*WIDTHS, "aom")}
        for m, (_, said) in reference.items():
            equal(said, m)
        check(len({json.dumps(r[0]) for r in reference.values()}) == 4, "the modes answer differently")
        wrong, stop = [], threading.Event()

        def client():
            mine = Client(d.port)
            while not stop.is_set():
                said = mine.post("/v1/deployments/reader/classify?logits=true", IMAGES[0], headers={"Content-Type": "image/png"}).json
                if said["results"][0]["logits"] != reference[said["mode"]][0][0]:
                    wrong.append(said["mode"])
        clients = [threading.Thread(target=client) for _ in range(2)]
        for t in clients:
            t.start()
        for i in range(24):
            c.put("/v1/deployments/reader/mode", {"mode": (*WIDTHS, "aom")[i % 4]})
        check("aom -> width:0.25" in wasd("mode", "reader", "width:0.25", *url), "the switch by the command line")
        stop.set()
        for t in clients:
            t.join()
        equal(wrong, [])
        equal(answer(c, "reader")[1], "width:0.25")
        check("width:0.25" in wasd("mode", "reader", *url), "the list")
        equal(c.get("/v2/models/reader/versions/1-width:0.5").status, 200)
        bundles = c.get("/v1/deployments/reader/mode").json["bundles"]
        equal((bundles["width:0.5"]["macs"], bundles["width:0.5"]["bytes"] < bundles["aom"]["bytes"]), (modes["width:0.5"]["macs"], True))

    with case("a width that the checkpoint does not have is refused by its name"):
        said = c.put("/v1/deployments/reader/mode", {"mode": "width:0.3"}, want=(400, 409, 422)).json
        check("width:0.3" in said["detail"], said)
        c.post("/v1/deployments", {"name": "other", "source": {"checkpoint": served}, "mode": "width:0.3"}, want=(400, 409, 422))

    with case("exported: ONNX, and weights as a network of its own, which is deployed with the same answers"):
        file = f"/v1/checkpoints/{served}/file"
        whole, narrow = (c.get(f"{file}?format=onnx&mode={m}").body for m in ("aom", "width:0.25"))
        check(len(narrow) < 0.5 * len(whole), f"{len(narrow)} of {len(whole)} bytes")
        out = os.path.join(directory(), "narrow.safetensors")
        wasd("export", served, "--mode", "width:0.5", "--output", out, *url)
        data = open(out, "rb").read()
        equal(data, c.get(f"{file}?mode=width:0.5").body)
        meta, tensors = safetensors(data)
        equal(json.loads(meta["model"])["name"], "custom-0.5")
        c.post("/v1/deployments", {"name": "narrow", "source": {"blob": blob(c, data)}}, want=(201, 202))
        d.wait_deployment("narrow")
        equal(answer(c, "narrow"), (reference["width:0.5"][0], "aom"))

    with case("dynamic: made of the widths, listed with its mean multiply-adds and the times of real images"):
        path = f"/v1/checkpoints/{served}/modes"
        said = c.post(path, {"desire": "dynamic", "budget": 0.5}, want=202).json
        equal((said["name"], said["kind"]), ("dynamic:0.5", "dynamic"))
        made = {}
        while made.get("state") not in ("ready", "failed"):
            made = c.get(f"{path}/dynamic:0.5?wait=30s").json
        equal(made["state"], "ready", made.get("message"))
        listed = {m["name"]: m for m in c.get(path).json["items"]}["dynamic:0.5"]
        check(macs[0] < listed["macs"] <= 0.5 * macs[-1] and 0 <= listed["val_acc"] <= 1 and listed["us_1"] > 0 and listed["us_64"] > 0, listed)
        equal(c.post(path, {"desire": "dynamic", "budget": 0.5}, want=200).json["name"], "dynamic:0.5")

    def dynamic():
        """Every image alone has the answer of one width, whose multiply-adds are those of the smallest, the gate and that width."""
        to = set()
        for i, image in enumerate(IMAGES):
            a = c.post("/v1/deployments/reader/classify?logits=true", image, headers={"Content-Type": "image/png"}, want=200).json
            equal(a["mode"], "dynamic:0.5")
            found = [k for k, m in enumerate((*WIDTHS, "aom")) if a["results"][0]["logits"] == reference[m][0][i]]
            equal(len(found), 1, "the answer of one width")
            gate = a["macs"] - macs[0] - (macs[found[0]] if found[0] else 0)
            check(0 < gate < 100, f"{a['macs']} multiply-adds for {(*WIDTHS, 'aom')[found[0]]}, of {macs}")
            to.add(found[0])
        return to

    with case("switched to live, by name and by wish, and after a restart of the daemon"):
        c.put("/v1/deployments/reader/mode", {"mode": "dynamic:0.5"}, want=200)
        equal(c.get("/v1/deployments/reader/mode").json["bundles"]["dynamic:0.5"]["macs"], listed["macs"])
        to = dynamic()
        c.put("/v1/deployments/reader/mode", {"mode": "aom"}, want=200)
        c.put("/v1/deployments/reader/mode", {"mode": {"max_macs": listed["macs"], "min_accuracy": listed["val_acc"]}}, want=200)
        c.put("/v1/deployments/reader/mode", {"mode": "dynamic:0.5"}, want=200)
        d.stop()
        d.start()
        c = d.client
        d.wait_deployment("reader")
        equal(dynamic(), to)

    with case("not exported, not deleted while it answers, refused without widths or below the smallest"):
        said = c.get(f"/v1/checkpoints/{served}/file?format=onnx&mode=dynamic:0.5", want=(409, 422)).json
        check("4 networks" in said["detail"], said)
        c.get(f"/v1/checkpoints/{served}/file?mode=dynamic:0.5", want=400)
        c.delete(f"{path}/dynamic:0.5", want=409)
        c.put("/v1/deployments/reader/mode", {"mode": "width:0.5"}, want=200)
        c.delete(f"{path}/dynamic:0.5", want=(200, 204))
        said = c.post(path, {"desire": "dynamic", "budget": 0.01}, want=202).json
        while said["state"] not in ("ready", "failed"):
            said = c.get(f"{path}/{said['name']}?wait=30s").json
        check(said["state"] == "failed" and "smallest width" in said["message"], said)
        plain = d.wait_job(d.submit(**{**SLICED, "weights": [], "train": {**SLICED["train"], "epochs": 1}})["id"])["best"]["checkpoint"]
        said = c.post(f"/v1/checkpoints/{plain}/modes", {"desire": "dynamic", "budget": 0.5}, want=422).json
        check("slices" in said["detail"], said)

finish()
