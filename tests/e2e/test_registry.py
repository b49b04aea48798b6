#!/usr/bin/python3
"""The registry with a real daemon: two versions of a model, a deployment that follows an alias, the alias moved under traffic and after a
kill -9, and the checkpoint of a version outlives its job's retention. Answers are compared to the bit with those of each checkpoint alone."""
import threading, time

from lib import PATIENCE, Client, Daemon, case, check, equal, finish, noise_png

PNG = {"Content-Type": "image/png"}


def logits(client, name, image):
    said = client.post(f"/v1/deployments/{name}/classify?logits=1&k=1", noise_png(image), want=200, headers=PNG).json
    return said["version"], said["results"][0]["logits"]


def moved(d, name, version):
    """Asks until the deployment answers as that version."""
    end = time.monotonic() + 60 * PATIENCE
    while logits(d.client, name, 0)[0] != version:
        check(time.monotonic() < end, f"version {version} does not answer")


with Daemon() as d:
    with case("versions are checkpoints with their lineage, which retention keeps"):
        d.glyphs(train=400, test=100)
        spec = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"}}
        jobs = [d.submit(**spec, train={"epochs": 2, "batch": 50, "seed": seed})["id"] for seed in (3, 4)]
        for job in jobs:
            d.wait_job(job)
        d.client.post("/v1/models", {"name": "digits", "note": "reads digits"}, want=201)
        versions = [d.client.post("/v1/models/digits/versions", {"job": job, "follow": "best", "note": job}, want=201).json for job in jobs]
        equal([v["version"] for v in versions], [1, 2])
        for job, v in zip(jobs, versions):
            equal(v["lineage"]["job"], job)
            equal(v["lineage"]["dataset"]["name"], "glyphs")
            equal(v["lineage"]["sha256"], d.client.get(f"/v1/checkpoints/{v['checkpoint']}").json["sha256"])
        refused = d.client.delete(f"/v1/jobs/{jobs[0]}", want=409).json
        equal(refused["code"], "referenced")
        check("digits version 1" in refused["detail"], refused["detail"])
        want = {}
        for v in versions:
            name = f"alone-{v['version']}"
            d.client.post("/v1/deployments?wait=60s", {"name": name, "source": {"checkpoint": v["checkpoint"]}}, want=201)
            want[v["version"]] = logits(d.client, name, 0)[1]
        check(want[1] != want[2], "the versions answer differently")

    with case("a moved alias swaps the deployment that follows it, without a failed or mixed answer"):
        d.client.put("/v1/models/digits/aliases/champion", {"version": 1}, want=201)
        d.client.post("/v1/deployments?wait=60s", {"name": "reader", "source": {"model": "digits", "alias": "champion"}}, want=201)
        equal(logits(d.client, "reader", 0), (1, want[1]))
        stop, failures, seen = threading.Event(), [], set()

        def client():
            c = Client(d.port)
            while not stop.is_set():
                try:
                    version, got = logits(c, "reader", 0)
                    seen.add(version)
                    equal(got, want[1 if version % 2 else 2], f"version {version} of the deployment")
                except Exception as e:
                    failures.append(str(e))
                    stop.set()

        threads = [threading.Thread(target=client) for _ in range(4)]
        for t in threads:
            t.start()
        while 1 not in seen and not stop.is_set():
            logits(d.client, "reader", 0)
        for deployed, version in ((2, 2), (3, 1), (4, 2)):
            said = d.client.put("/v1/models/digits/aliases/champion", {"version": version}, want=200).json
            equal(said["deployments_moved"], ["reader"])
            moved(d, "reader", deployed)
            while deployed not in seen and not stop.is_set():
                logits(d.client, "reader", 0)
        stop.set()
        for t in threads:
            t.join()
        equal(failures, [])
        equal(seen, {1, 2, 3, 4}, "versions that answered")

    with case("after a kill -9 the deployment serves the version that the alias names"):
        d.client.put("/v1/models/digits/aliases/champion", {"version": 1, "reason": "back"}, want=200)
        d.kill()
        d.start()
        d.wait_deployment("reader")                    # at first with what it served before
        equal(d.client.get("/v1/deployments/reader?wait=60s").json["update"], None)
        equal(logits(d.client, "reader", 0), (5, want[1]))
        history = d.client.get("/v1/models/digits/aliases/champion/history?sort=created_at").json["items"]
        equal([h["version"] for h in history], [1, 2, 1, 2, 1])
        equal(history[-1]["reason"], "back")

    with case("a job that completes is registered and deployed if it is good enough, and the deployment is served"):
        def after(**on_complete):
            return d.wait_job(d.submit(**spec, train={"epochs": 1, "batch": 50, "seed": 5}, on_complete=on_complete)["id"])["on_complete"]

        now = after(**{"if": "val_acc_aom >= 0", "register": {"model": "digits", "alias": "champion"}, "deploy": {"name": "fresh", "mode": "dom"}})
        equal((now["state"], now["version"], now["deployment"]), ("done", 3, "fresh"))
        equal(d.client.get("/v1/models/digits/versions/3").json["checkpoint"], now["checkpoint_id"])
        moved(d, "reader", 6)                          # it follows the alias
        fresh = d.wait_deployment("fresh")
        equal((fresh["checkpoint"], fresh["mode"]), (now["checkpoint_id"], "dom"))
        check(logits(d.client, "fresh", 0)[1] != logits(d.client, "reader", 0)[1], "the two modes of one checkpoint")
        now = after(**{"if": "val_acc_aom > 1.5", "register": {"model": "digits", "alias": "champion"}})
        equal((now["state"], now["version"]), ("skipped", None))
        check("not > 1.5" in now["why"], now)
        equal(d.client.get("/v1/models/digits").json["latest_version"], 3)
finish()
