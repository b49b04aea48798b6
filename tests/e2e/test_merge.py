#!/usr/bin/python3
"""Merging checkpoints with a real daemon: the path, the result in every use of a checkpoint, refusals, cancelling, and kill -9 in the middle."""
import glob, os, signal, subprocess

from lib import BUILD, PATIENCE, Daemon, Events, case, check, equal, finish, noise_png, safetensors


def conv(name, **more):
    return [{"type": "conv", "name": name, "out": 8, "bias": False, "augment": True, **more}, {"type": "batchnorm", "name": name + ".bn"}]


RELU = {"type": "relu"}
NETWORK = {"name": "block", "layers": conv("stem", stride=2) + [{**RELU, "name": "r"}] + conv("c1") + [RELU] + conv("c2") + [
    {"type": "add", "from": ["r", "c2.bn"]}, RELU, {"type": "maxpool", "kernel": 2}, {"type": "flatten"}, {"type": "linear", "out": "classes"}]}
SPEC = {"dataset": "glyphs", "model": NETWORK, "train": {"epochs": 2, "batch": 64}, "was": {"transforms": [{"type": "translate", "x": 0.3, "y": 0.3}]}}
PNG = {"Content-Type": "image/png"}
POINTS = 31                                      # of a merge that the test has time to interrupt


def wasd(*args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=120 * PATIENCE)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout + p.stderr


def ended(d, merge, want="ready"):
    for _ in range(10):
        m = d.client.get(f"/v1/merges/{merge}?wait=60s").json
        if m["state"] in ("ready", "failed"):
            equal(m["state"], want, f"{merge}: {m['message']}")
            return m
    raise AssertionError(f"still {m['state']}: {m}")


def begin(d, **request):
    return d.client.post("/v1/checkpoints:merge", request, want=202).json["id"]


def running(d, merge):
    """Until the first batches have been measured."""
    while True:
        m = d.client.get(f"/v1/merges/{merge}").json
        equal(m["state"] in ("queued", "running"), True, f"{m}")
        if m.get("progress", {}).get("done"):
            return m


with Daemon() as d:
    c = d.client
    d.glyphs(train=500, test=50)
    ids = [d.submit(**{**SPEC, "train": {**SPEC["train"], "seed": seed}})["id"] for seed in (1, 2)]
    a, b = ckpts = [d.wait_job(job)["best"]["checkpoint"] for job in ids]

    with case("two runs: followed to the end, with the path between them"):
        events = Events(d.port, "/v1/events?topics=checkpoints")
        reply = c.post("/v1/checkpoints:merge", {"checkpoints": ckpts, "path": 5}, want=202)
        m = reply.json
        equal(reply.headers["Location"], f"/v1/merges/{m['id']}")
        check(m["state"] in ("queued", "running") and m["checkpoint"] is None and m["dataset"] == {"name": "glyphs", "version": 1}, m)
        done = events.until(lambda e: e.type == "checkpoint.merge", what="the merge's end")
        events.close()
        m = ended(d, m["id"])
        equal(done.data["checkpoint"], m["checkpoint"])
        equal([p["lambda"] for p in m["merge"]["path"]], [0, 0.25, 0.5, 0.75, 1])
        equal(m["metrics"]["val_acc_aom"], m["merge"]["path"][2]["accuracy"])
        equal(m["merge"]["from"], [{"checkpoint": a, "weight": 0.5}, {"checkpoint": b, "weight": 0.5}])
        before, after = m["merge"]["inner"][0]
        check(after > before and m["merge"]["barrier"] >= 0 and "val_acc_dom" in m["metrics"], m)
        equal([i["id"] for i in c.get("/v1/merges").json["items"]], [m["id"]])
        merged = m["checkpoint"]

    with case("the result is a checkpoint like any other"):
        k = c.get(f"/v1/checkpoints/{merged}").json
        equal((k["job"], k["reason"], k["info"]["merge"]["path"], k["metrics"]), (None, "merge", m["merge"]["path"], m["metrics"]))
        check(merged in [i["id"] for i in c.get("/v1/checkpoints").json["items"]], "it is listed among those without a job")
        c.post("/v1/deployments", {"name": "mixed", "source": {"checkpoint": merged}}, want=(201, 202))
        d.wait_deployment("mixed")
        for mode in ("aom", "dom"):
            equal(c.post(f"/v1/deployments/mixed/classify?mode={mode}", noise_png(1), headers=PNG).json["mode"], mode)
        equal([x["name"] for x in c.get(f"/v1/checkpoints/{merged}/modes").json["items"]][:2], ["aom", "dom"])
        equal(c.get(f"/v1/checkpoints/{merged}/layers").json["arch"], "block")
        check(c.get(f"/v1/checkpoints/{merged}/file?format=onnx&mode=dom").body, "an ONNX file")
        check("merged_from" in safetensors(c.get(f"/v1/checkpoints/{merged}/file?format=wasd").body)[0], "its metadata say so")
        c.post("/v1/models", {"name": "soup"})
        c.post("/v1/models/soup/versions", {"checkpoint": merged}, want=201)
        job = d.submit(**{**SPEC, "train": {"epochs": 1, "batch": 32, "seed": 5}, "init_from": {"checkpoint": merged}})["id"]
        d.wait_job(job)

    with case("all the weight to the first: its very weights"):
        one = ended(d, begin(d, checkpoints=ckpts, weights=[1, 0], align="none"))
        files = [safetensors(c.get(f"/v1/checkpoints/{x}/file").body)[1] for x in (one["checkpoint"], a)]
        for name in files[0]:
            if "running" not in name:
                equal(files[0][name], files[1][name], name)

    with case("by activations, and without statistics"):
        ended(d, begin(d, checkpoints=ckpts, align="activations"))
        bare = ended(d, begin(d, checkpoints=ckpts, recalibrate=False))
        equal((bare.get("dataset"), bare["metrics"]), (None, {}))
        c.post("/v1/deployments", {"name": "bare", "source": {"checkpoint": bare["checkpoint"]}}, want=(201, 202, 409, 422))
        d.wait_job(d.submit(**{**SPEC, "train": {"epochs": 1, "batch": 64}, "init_from": {"checkpoint": bare["checkpoint"]}})["id"])

    with case("what is refused at once"):
        for body, pointer in (({"checkpoints": [a]}, "/checkpoints"), ({}, "/checkpoints"), ({"checkpoints": [a, "ckpt_0"]}, "/checkpoints/1"),
                              ({"checkpoints": [a, 7]}, "/checkpoints/1"), ({"checkpoints": ckpts, "weights": [0.5, 0.2]}, "/weights"),
                              ({"checkpoints": ckpts, "align": "luck"}, "/align"), ({"checkpoints": [a, b, a], "path": 5}, "/path"),
                              ({"checkpoints": ckpts, "path": 1}, "/path"), ({"checkpoints": ckpts, "dataset": "none"}, "/dataset"),
                              ({"checkpoints": ckpts, "lambda": 0.5}, "/lambda")):
            equal(c.post("/v1/checkpoints:merge", body, want=422).json["errors"][0]["pointer"], pointer, str(body))
        c.get("/v1/merges/merge_0", want=404)
        c.delete("/v1/merges/merge_0", want=404)

    with case("another network is refused by name"):
        other = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, train={"epochs": 1, "batch": 250})["id"])["best"]["checkpoint"]
        m = ended(d, begin(d, checkpoints=[a, other]), want="failed")
        equal((m["pointer"], m["checkpoint"]), ("/checkpoints/1", None))
        check("another network" in m["message"] and other in m["message"], m["message"])
        d.glyphs(name="more", train=100, test=20)
        equal(ended(d, begin(d, checkpoints=ckpts, dataset="more"))["dataset"]["name"], "more")

    with case("the command"):
        said = wasd("merge", a, b, "--path", "3", "--url", f"http://127.0.0.1:{d.port}")
        lines = said.splitlines()
        equal(lines[0].split(), ["LAMBDA", "LOSS", "ACCURACY"])
        equal(len(lines), 6, said)
        check(lines[4].startswith("barrier: ") and lines[5].startswith(merged + ": aom 0."), said)
        check("/checkpoints/1" in wasd("merge", a, "ckpt_0", "--url", f"http://127.0.0.1:{d.port}", rc=1), "it names the faulty one")
        wasd("merge", a, rc=2)

    with case("deleted in the middle: the process ends, nothing is stored"):
        before = [i["id"] for i in c.get("/v1/checkpoints").json["items"]]
        gone = begin(d, checkpoints=ckpts, weights=[0.9, 0.1], path=POINTS)
        waits = begin(d, checkpoints=ckpts, weights=[0.8, 0.2])
        running(d, gone)
        c.delete(f"/v1/merges/{gone}", want=204)
        c.get(f"/v1/merges/{gone}", want=404)
        made = ended(d, waits)["checkpoint"]
        equal({i["id"] for i in c.get("/v1/checkpoints").json["items"]}, {*before, made})
        equal(os.path.exists(f"{d.data}/merges/{gone}.json"), False)

    with case("kill -9 of its process: it fails, and says so"):
        m = begin(d, checkpoints=ckpts, weights=[0.7, 0.3], path=POINTS)
        running(d, m)
        for pid in d.engines("profile"):
            os.kill(pid, signal.SIGKILL)
        check("ended early" in ended(d, m, want="failed")["message"], m)

    with case("kill -9 of the daemon: it begins anew, and gives the checkpoint that it would have given"):
        want = ended(d, begin(d, checkpoints=ckpts, weights=[0.6, 0.4]))["checkpoint"]
        m = begin(d, checkpoints=ckpts, weights=[0.6, 0.4], path=POINTS)
        waits = begin(d, checkpoints=ckpts, weights=[0.4, 0.6])
        running(d, m)
        d.kill()
        d.start()
        c = d.client
        equal(ended(d, m)["checkpoint"], want)
        ended(d, waits)
        equal(ended(d, one["id"])["checkpoint"], one["checkpoint"], "a merge of the time before")

    with case("SIGTERM: the same"):
        m = begin(d, checkpoints=ckpts, weights=[0.6, 0.4], path=POINTS)
        running(d, m)
        equal(d.stop(), 0, "exit status")
        d.start()
        c = d.client
        equal(ended(d, m)["checkpoint"], want)
        equal(len(ended(d, m)["merge"]["path"]), POINTS)
        for i in c.get("/v1/merges").json["items"]:
            c.delete(f"/v1/merges/{i['id']}", want=204)
        equal((c.get("/v1/merges").json["items"], glob.glob(f"{d.data}/merges/*")), ([], []))
        c.get(f"/v1/checkpoints/{want}")
finish()
