#!/usr/bin/python3
"""Another checkpoint for a deployment that serves: without a failed request, with the old one if the new one cannot be loaded, by itself while a job trains, and across
a kill -9 of the daemon; deletion that waits for the last answers; load and unload of the inference protocol."""
import contextlib, hashlib, json, os, signal, struct, sys, threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from lib import PATIENCE, SANITIZED, Client, Daemon, Events, Stopwatch, case, check, equal, finish, noise_png, safetensors, write_safetensors
import switches

PNG = {"Content-Type": "image/png"}
PATH = "/v1/deployments/live"


def patch(c, body, query="?wait=60s", want=200):
    return c.request("PATCH", PATH + query, body, want=want).json


def logits(c, image=noise_png(3), path=PATH):
    return c.post(f"{path}/classify?logits=1", image, want=200, headers=PNG).json["results"][0]["logits"]


def gone(d, name, events):
    events.until(lambda e: e.type == "deployment.deleted" and e.data["name"] == name, what="the end of the deployment")
    d.client.get(f"/v1/deployments/{name}", want=404)


with Daemon() as d:
    c = d.client
    ckpts = switches.prepare(d, 3)

    with case("50 switches and 3 swaps under 8 connections: no failure, every answer is that of its version and mode"):
        n = (20, 2) if SANITIZED else (50, 3)
        s = switches.run(d, ckpts, 8, *n)
        equal(s["versions"], n[1] + 1)
        print(f"# {s['answers']} answers from {s['generations']} generations")

    with case("rollback, and an update to what is served already"):
        before = c.get(PATH).json
        back = c.post(f"{PATH}:rollback?wait=60s", want=200).json
        equal((back["checkpoint"], back["version"], back["previous"]), (before["previous"], before["version"] + 1, before["checkpoint"]))
        same = patch(c, {"source": {"checkpoint": back["checkpoint"]}, "mode": "aom"})
        equal((same["version"], same["mode"], same["update"]), (back["version"], "aom", None))

    with case("a checkpoint that cannot be loaded: the old one answers, also after a restart"):
        _, tensors = safetensors(c.get(f"/v1/checkpoints/{ckpts[0]}/file").body)
        huge = {k: (t, shape, struct.pack("<f", 3e38) * (len(data) // 4)) for k, (t, shape, data) in tensors.items() if "." in k and t == "F32"}
        bad = write_safetensors({**tensors, **huge})
        sha256 = hashlib.sha256(bad).hexdigest()
        c.put(f"/v1/blobs/{sha256}", bad)
        before, right = c.get(PATH).json, logits(c)
        source = {"blob": sha256, "model": {"arch": "lenet"}, "classes": list("abcdefghij"), "input": [3, 32, 32]}
        told = patch(c, {"source": source}, want=422)
        equal(told["code"], "load_failed")
        for restart in (False, True):
            if restart:
                d.kill()
                d.start()
                c = d.client
                d.wait_deployment("live")
            now = c.get(PATH).json
            equal([now[k] for k in ("state", "checkpoint", "version", "generation")], ["ready"] + [before[k] for k in ("checkpoint", "version", "generation")])
            equal([k["type"] for k in now["conditions"]], ["UpdateFailed"])
            check("inf" in now["update"]["error"] or "nan" in now["update"]["error"], now["update"])
            equal(logits(c), right)
        c.delete(f"/v1/checkpoints/{now['update']['checkpoint']}", want=409)
        rows = c.get("/v1/audit?object=deployment/live&limit=3").json["items"]
        equal([row["action"] for row in rows[:2]], ["deployment.update_failed", "deployment.source"])

    with case("kill -9 after an update was accepted: it is served after the restart"):
        other = next(k for k in ckpts if k != now["checkpoint"])
        patch(c, {"source": {"checkpoint": other}}, "", want=202)
        d.kill()
        d.start()
        c = d.client
        events = Events(d.port, "/v1/events?topics=deployments")
        if c.get(PATH).json["version"] != before["version"] + 1:
            events.until(lambda e: e.data.get("version") == before["version"] + 1, what="the new version")
        events.close()
        now = d.wait_deployment("live")
        equal((now["checkpoint"], now["conditions"], now["update"]), (other, [], None))
        check(logits(c) != right, "another checkpoint answers")

    with case("a move of an alias swaps the deployment that follows it, and a rollback leaves it"):
        c.post("/v1/models", {"name": "reader"})
        for k in ckpts[:2]:
            c.post("/v1/models/reader/versions", {"checkpoint": k})
        c.put("/v1/models/reader/aliases/champion", {"version": 1})
        source = {"model": "reader", "alias": "champion"}
        first = patch(c, {"source": source})
        equal((first["checkpoint"], first["source"]), (ckpts[0], source))
        c.put("/v1/models/reader/aliases/champion", {"version": 2})
        second = c.get(f"{PATH}?wait=60s").json
        equal([second[k] for k in ("checkpoint", "version", "source", "update")], [ckpts[1], first["version"] + 1, source, None])
        back = c.post(f"{PATH}:rollback?wait=60s", want=200).json
        equal((back["checkpoint"], back["source"]), (ckpts[0], {"checkpoint": ckpts[0]}))
        c.put("/v1/models/reader/aliases/champion", {"version": 1})
        now = c.get(f"{PATH}?wait=60s").json
        equal(now["version"], back["version"])

    with case("unload, load with a configuration, reload"):
        c.post("/v2/repository/models/live/unload", want=200)
        equal(c.get(PATH).json["state"], "unloaded")
        c.post(f"{PATH}/classify", noise_png(1), want=503, headers=PNG)
        c.get("/v2/models/live/ready", want=503)
        config = json.dumps({"dynamic_batching": {"preferred_batch_size": [8], "max_queue_delay_microseconds": 100}})
        c.post("/v2/repository/models/live/load", {"parameters": {"config": config}}, want=200)
        equal(c.post("/v2/repository/index").json, [{"name": "live", "version": str(now["version"]), "state": "READY", "reason": ""}])
        equal(c.get(PATH).json["batching"], {"max_batch": 8, "max_queue_delay_us": 100})
        logits(c)

    with case("a deployment that is deleted answers what it has accepted, and nothing else"):
        events, answer = Events(d.port, "/v1/events?topics=deployments"), []
        pid = d.engines("infer")[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            asker = threading.Thread(target=lambda: answer.append(Client(d.port).post(f"{PATH}/classify", noise_png(1), want=None, headers=PNG)))
            asker.start()
            while c.get(f"{PATH}/stats").json["in_flight"] == 0:
                check(asker.is_alive(), answer)
            equal(c.delete(PATH, want=202).json["state"], "draining")
            c.post(f"{PATH}/classify", noise_png(1), want=503, headers=PNG)
            equal(c.post("/v2/repository/index").json[0]["state"], "UNLOADING")
        finally:
            os.kill(pid, signal.SIGCONT)
        asker.join()
        equal(answer[0].status, 200)
        gone(d, "live", events)
        events.close()

    with case("a running job is followed"):
        spec = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"}, "train": {"epochs": 10000, "batch": 25, "seed": 4},
                "checkpoint": {"every": 1, "keep": {"best": 1, "latest": 1}}}
        job = d.submit(**spec)["id"]
        events = Events(d.port, f"/v1/jobs/{job}/events", last_id=0)
        events.until(lambda e: e.type == "job.checkpoint", what="the first checkpoint")
        events.close()
        events = Events(d.port, "/v1/events?topics=deployments")
        c.post("/v1/deployments", {"name": "live", "source": {"job": job, "follow": "latest"}})
        events.until(lambda e: e.data.get("version", 0) >= 4, what="the third swap")
        events.close()

    def awaits(what, condition):
        """The deployment, once the condition holds."""
        watch = Stopwatch()
        while not condition(now := c.get(PATH).json):
            check(watch.s() < 60 * PATIENCE, f"{what}: {now}")
        return now

    def lags(now):
        return [one["reason"] for one in now["conditions"] if one["type"] == "NotFollowing"]

    with case("in the mode of a profile it does not follow, and says so until it may again"):
        c.post(f"/v1/jobs/{job}:pause")
        awaits("the job pauses", lambda _: c.get(f"/v1/jobs/{job}").json["state"] == "paused")
        last = c.get(f"/v1/jobs/{job}/checkpoints").json["items"][0]["id"]
        awaits("the last checkpoint is served", lambda now: now["checkpoint"] == last)
        draw = c.get(f"/v1/checkpoints/{last}").json["info"]["draw"]
        c.post(f"/v1/checkpoints/{last}/profiles", {"name": "same", "draw": draw}, want=202)
        awaits("the profile is loaded", lambda now: "dom:same" in now["modes"])
        before = c.put(f"{PATH}/mode", {"mode": "dom:same"}, want=200).json
        equal(lags(c.get(PATH).json), [])
        c.post(f"/v1/jobs/{job}:resume")
        now = awaits("newer checkpoints are not followed", lags)
        equal((now["checkpoint"], now["generation"]), (last, before["generation"]))
        check("no mode dom:same" in lags(now)[0], now)
        c.put(f"{PATH}/mode", {"mode": "aom"}, want=200)
        awaits("it follows again", lambda now: not lags(now) and now["checkpoint"] != last)

    with case("it follows its job to the end"):
        c.post(f"/v1/jobs/{job}:cancel")
        d.wait_job(job, "cancelled")
        last = c.get(f"/v1/jobs/{job}/checkpoints").json["items"][0]
        events = Events(d.port, "/v1/events?topics=deployments")
        if c.get(PATH).json["checkpoint"] != last["id"]:
            events.until(lambda e: e.data.get("checkpoint") == last["id"], what="the last checkpoint")
        events.close()
        now = d.wait_deployment("live")
        equal((now["source"], now["checkpoint"]), ({"job": job, "follow": "latest"}, last["id"]))
        rows = [row for row in c.get("/v1/audit?object=deployment/live&limit=4").json["items"] if row["action"] == "deployment.swap"]
        check(all(row["actor"] == "daemon" and row["reason"].startswith(f"follows the latest checkpoint of job {job}") for row in rows), rows)
        check(now["version"] >= 4, now)
        equal(logits(c), logits(c))

finish()
