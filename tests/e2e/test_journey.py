#!/usr/bin/python3
"""The newcomer's tour over HTTP, in the order of the README: data set, job, curves, checkpoint, live model, both modes, audit, cleanup."""
import base64, json, struct, time

from lib import Daemon, Events, case, check, equal, finish, multipart, noise_png, safetensors

SPEC = {"name": "first", "dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"},
        "train": {"epochs": 6, "batch": 32, "seed": 1, "optimizer": {"type": "adamw", "lr": 0.001}, "schedule": {"type": "constant", "warmup_epochs": 1}}}

with Daemon() as d:
    c = d.client
    state = {}

    with case("health and capabilities"):
        equal(c.get("/healthz").status, 200)
        equal(c.get("/v2/health/live").json["live"], True)
        while not c.get("/v2/health/ready", want=(200, 503)).json["ready"]:     # until the inference process runs
            check(d.alive(), "the daemon")
            time.sleep(0.05)
        names = [a["name"] for a in c.get("/v1/capabilities").json["archs"]]
        check({"lenet", "vgg16", "resnet18"} <= set(names), names)

    with case("a synthetic data set is made, listed and shown"):
        info = d.glyphs(train=2000, test=300)
        equal((info["shape"], len(info["classes"])), ([3, 32, 32], 10))
        equal([x["name"] for x in c.get("/v1/datasets").json["items"]], ["glyphs"])
        image = c.get("/v1/datasets/glyphs/preview?i=5")
        equal((image.headers["Content-Type"], image.body[:8]), ("image/png", b"\x89PNG\r\n\x1a\n"))
        state["image"] = image.body

    with case("a job is submitted, followed by events and completes"):
        events = Events(d.port, "/v1/events?topics=jobs")
        job = d.submit(**SPEC)
        state["job"] = job["id"]
        check(job["state"] in ("queued", "starting", "running"), job["state"])
        check(job["spec_digest"] and job["dataset_digest"], "digests of spec and data")
        first = events.until(lambda e: e.type == "job.metric", what="job.metric")
        equal((first.data["points"][0][:2], list(first.data["metrics"])), ([1, 1], ["train_loss_step"]), "the first loss is told before the epoch ends")
        events.until(lambda e: e.type == "job.state" and e.data.get("to", e.data.get("state")) == "completed", what="job.state completed")
        done = d.wait_job(job["id"])
        equal(done["progress"]["epoch"], 6)
        check(done["finished_at"] >= done["started_at"] >= done["created_at"], "times in order")
        ids = [int(e.id) for e in events.seen]
        equal(ids, sorted(set(ids)), "event ids rise")
        told = [e.data["progress"]["phase"] for e in events.seen if e.type == "job.progress"]
        phases = ["starting", "loading data", "measuring algorithms", "training", "measuring statistics", "evaluating", "saving"]
        check(told and set(told) <= set(phases), f"phases {told}")          # once per second: a quick phase may be missing
        check("phase" not in done["progress"], done["progress"])
        events.close()
        again = Events(d.port, "/v1/events?topics=jobs", last_id=ids[0])
        equal([int(again.next(20).id) for _ in ids[1:]], ids[1:], "events after Last-Event-ID")
        again.close()

    with case("metrics of both modes, per epoch"):
        s = d.series(state["job"])
        for name in ("train_loss", "val_loss_aom", "val_acc_aom", "val_loss_dom", "val_acc_dom", "lr", "images_per_s"):
            equal(sorted(s[name]), [1, 2, 3, 4, 5, 6], name)
        for name in ("test_loss_aom", "test_acc_aom", "test_loss_dom", "test_acc_dom"):
            check({done["best"]["epoch"], 6} <= set(s[name]), f"{name} of the best epoch and the last: {s[name]}")
            equal(done["best"]["metrics"][name], s[name][done["best"]["epoch"]], name)
        check(s["train_loss"][6] < s["train_loss"][1], s["train_loss"])
        check(s["val_acc_aom"][6] > 0.2, f"above chance: {s['val_acc_aom']}")
        only = c.get(f"/v1/jobs/{state['job']}/metrics?names=val_acc_dom").json["series"]
        equal([x["name"] for x in only], ["val_acc_dom"])

    with case("the training loss by step"):
        points = c.get(f"/v1/jobs/{state['job']}/metrics?names=train_loss_step").json["series"][0]["points"]
        equal([p[0] for p in points], list(range(1, len(points) + 1)), "a point for each of so few steps")
        for epoch, loss in d.series(state["job"], "train_loss")["train_loss"].items():
            of = [p[3] for p in points if p[1] == epoch]
            check(abs(sum(of) / len(of) - loss) < 0.2, f"epoch {epoch}: {loss}, its steps {sum(of) / len(of)}")      # the last batch is smaller

    with case("log and state history"):
        log = c.get(f"/v1/jobs/{state['job']}/logs", headers={"Accept": "text/plain"}).body.decode()
        equal([log.count(f"epoch {e} of 6,") + log.count(f"epoch {e}:") for e in range(1, 7)], [1] * 6, "each epoch is told once")
        check(c.get(f"/v1/jobs/{state['job']}/logs?tail=50").body, "the log has lines")
        moves = c.get(f"/v1/jobs/{state['job']}/transitions").json["items"]
        equal([m["to"] for m in moves][-1], "completed")

    with case("the checkpoint is a valid safetensors file, whole and in ranges"):
        items = c.get(f"/v1/jobs/{state['job']}/checkpoints").json["items"]
        check(items, "there are checkpoints")
        path = f"/v1/checkpoints/{items[0]['id']}/file?format=wasd"
        whole = c.get(path)
        equal(len(whole.body), items[0]["bytes"])
        meta, tensors = safetensors(whole.body)
        equal(json.loads(meta["spec"])["model"]["arch"], "lenet")
        floats = [t for t in tensors.values() if t[0] == "F32"]
        check(floats and all(x == x and abs(x) < 1e6 for t in floats for x in struct.unpack(f"<{len(t[2]) // 4}f", t[2])), "finite numbers")
        part = c.get(path, want=206, headers={"Range": "bytes=100-299"})
        equal((part.body, part.headers["Content-Range"]), (whole.body[100:300], f"bytes 100-299/{len(whole.body)}"))
        tail = c.get(path, want=206, headers={"Range": "bytes=-16"})
        equal(tail.body, whole.body[-16:])
        c.get(path, want=416, headers={"Range": f"bytes={len(whole.body)}-"})
        c.get(path, want=304, headers={"If-None-Match": whole.headers["ETag"]})

    with case("a job's best checkpoint is deployed with both modes"):
        d.deploy("live", state["job"])
        m = c.get("/v1/deployments/live/mode")
        equal((m.json["mode"], m.json["generation"]), ("aom", 1))
        check(m.json["bundles"]["dom"]["macs"] <= m.json["bundles"]["aom"]["macs"], m.json["bundles"])
        state["etag"] = m.headers["ETag"]

    with case("classify: raw PNG, octet stream, multipart and base64 agree"):
        image = state["image"]
        answers = [c.post("/v1/deployments/live/classify?k=3", image, want=200, headers={"Content-Type": kind}).json for kind in ("image/png", "application/octet-stream")]
        kind, body = multipart([("image", "a.png", "image/png", image), ("image", "b.png", "image/png", noise_png(1))])
        both = c.post("/v1/deployments/live/classify?k=3", body, want=200, headers={"Content-Type": kind}).json
        equal(len(both["results"]), 2)
        answers += [both, c.post("/v1/deployments/live/classify?k=3", {"images": [base64.b64encode(image).decode()]}, want=200).json]
        for a in answers:
            for one, other in zip(a["results"][0]["top"], answers[0]["results"][0]["top"]):
                equal(one["label"], other["label"])
                check(abs(one["p"] - other["p"]) < 1e-5, "the same in a batch of one and of two, up to rounding")
            equal((a["mode"], a["generation"], len(a["results"][0]["top"])), ("aom", 1, 3))
            check(a["macs"] > 0 and set(a["timing_us"]) >= {"decode", "queue", "compute"}, a)
        top = answers[0]["results"][0]["top"]
        check(1.0001 >= top[0]["p"] >= top[1]["p"] >= top[2]["p"] >= 0, top)

    with case("the mode is switched: compare-and-swap, generation, audit"):
        stale = c.put("/v1/deployments/live/mode", {"mode": "dom"}, want=412, headers={"If-Match": '"g99"'})
        equal(stale.headers["ETag"], state["etag"])
        done = c.put("/v1/deployments/live/mode", {"mode": "dom", "reason": "tour"}, want=200, headers={"If-Match": state["etag"]}).json
        equal((done["mode"], done["generation"], done["previous"]), ("dom", 2, "aom"))
        same = c.put("/v1/deployments/live/mode", {"mode": "dom"}, want=200).json
        equal(same["generation"], 2, "the same mode makes no new generation")
        answer = c.post("/v1/deployments/live/classify", state["image"], want=200, headers={"Content-Type": "image/png"})
        equal((answer.json["mode"], answer.json["generation"]), ("dom", 2))
        equal((answer.headers["WASD-Mode"], answer.headers["WASD-Generation"]), ("dom", "2"))
        rows = c.get("/v1/audit?object=deployment/live").json["items"]
        row = next(r for r in rows if r["id"] == done["audit_id"])
        equal(row["reason"], "tour")

    with case("a single request may ask for the other mode"):
        answer = c.post("/v1/deployments/live/classify?mode=aom", state["image"], want=200, headers={"Content-Type": "image/png"}).json
        equal(answer["mode"], "aom")

    with case("/v2: metadata and inference with JSON tensors"):
        meta = c.get("/v2/models/live").json
        equal(meta["inputs"][0]["shape"], [-1, 3, 32, 32])
        data = [((i * 37) % 255) / 127.5 - 1 for i in range(2 * 3 * 32 * 32)]
        reply = c.post("/v2/models/live/infer", {"id": "t1", "inputs": [{"name": "input", "shape": [2, 3, 32, 32], "datatype": "FP32", "data": data}]}, want=200).json
        equal((reply["id"], reply["model_name"], reply["parameters"]["was_mode"]), ("t1", "live", "dom"))
        logits = next(o for o in reply["outputs"] if o["name"] == "logits")
        equal((logits["shape"], len(logits["data"])), ([2, 10], 20))
        equal(c.get("/v2/models/live/ready").json["ready"], True)

    with case("conditional GET and problem documents"):
        job = c.get(f"/v1/jobs/{state['job']}")
        c.get(f"/v1/jobs/{state['job']}", want=304, headers={"If-None-Match": job.headers["ETag"]})
        p = c.get("/v1/jobs/job_none", want=404)
        equal(p.headers["Content-Type"].split(";")[0], "application/problem+json")
        check({"type", "title", "status", "detail", "code", "request_id"} <= set(p.json), p.json)

    with case("a running job is cancelled within one mini-batch and keeps its checkpoint"):
        long = d.submit(**{**SPEC, "name": "long", "train": {**SPEC["train"], "epochs": 10000}})
        events = Events(d.port, f"/v1/jobs/{long['id']}/events")
        if c.get(f"/v1/jobs/{long['id']}/checkpoints").json["items"] == []:
            events.until(lambda e: e.type == "job.checkpoint", what="the first checkpoint")
        events.close()
        c.post(f"/v1/jobs/{long['id']}:cancel", {"mode": "graceful", "reason": "enough"}, want=(200, 202))
        d.wait_job(long["id"], "cancelled")
        check(c.get(f"/v1/jobs/{long['id']}/checkpoints").json["items"], "its checkpoint is kept")
        c.post(f"/v1/jobs/{long['id']}/cancel", want=(200, 409))
        c.delete(f"/v1/jobs/{long['id']}", want=204)
        c.get(f"/v1/jobs/{long['id']}", want=404)

    with case("a queued job is cancelled at once"):
        first, second = (d.submit(**{**SPEC, "name": n, "train": {**SPEC["train"], "epochs": 10000}}) for n in ("a", "b"))
        c.post(f"/v1/jobs/{second['id']}:cancel", want=(200, 202))
        d.wait_job(second["id"], "cancelled")
        c.post(f"/v1/jobs/{first['id']}:cancel", want=(200, 202))
        d.wait_job(first["id"], "cancelled")

    with case("objects in use cannot be deleted; afterwards everything can"):
        equal(c.delete(f"/v1/jobs/{state['job']}", want=409).json["code"], "referenced")
        c.delete("/v1/deployments/live")
        for job in c.get("/v1/jobs").json["items"]:
            c.delete(f"/v1/jobs/{job['id']}", want=204)
        c.delete("/v1/datasets/glyphs", want=204)
        equal([c.get(f"/v1/{kind}").json["items"] for kind in ("jobs", "datasets", "deployments")], [[], [], []])

finish()
