#!/usr/bin/python3
"""Profiles with the real engine: a job that ends with one, switching a live model to it and requesting it in every way, a second one that arrives
while the model is served, export, a kill -9 of the daemon in the middle of a search, and deletions that are rejected."""
import json, os, subprocess

from lib import BUILD, PATIENCE, Daemon, Events, case, check, directory, equal, finish, noise_png

SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"}, "train": {"epochs": 3, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.002}},
        "profiles": [{"name": "fast", "desire": "macs", "budget": 0.9, "evaluations": 40}]}
# Eight augmented layers: the search takes seconds, so the test can interrupt it.
DEEP = {"layers": [layer for _ in range(8) for layer in ({"type": "conv", "out": 8, "augment": True}, {"type": "relu"})] +
                  [{"type": "globalpool"}, {"type": "flatten"}, {"type": "linear", "out": "classes"}]}
PNG = {"Content-Type": "image/png"}


def wasd(*args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=120 * PATIENCE)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout + p.stderr


def classify(d, mode=None, headers=PNG, want=200):
    return d.client.post("/v1/deployments/live/classify?logits=1&k=1" + (f"&mode={mode}" if mode else ""), noise_png(1), want=want, headers=headers).json


def logits(answer):
    return answer["results"][0]["logits"]


def wait_profile(d, path, want="ready"):
    for _ in range(10):
        p = d.client.get(path + "?wait=30s").json
        if p["state"] in ("ready", "failed"):
            equal(p["state"], want, f"{path}: {p}")
            return p
    raise AssertionError(f"{path} is still {p['state']}: {p}")


with Daemon() as d:
    c = d.client
    d.glyphs(train=400, test=100)
    with case("a job completes when its profile is ready"):
        events = Events(d.port, "/v1/events?topics=jobs,checkpoints")
        job = d.submit(**SPEC)["id"]
        events.until(lambda e: e.type == "checkpoint.profile" and e.data["state"] == "queued", what="the profile's row")
        found = events.until(lambda e: e.type == "checkpoint.profile" and e.data["state"] in ("ready", "failed"), what="the search's end")
        done = events.until(lambda e: e.type == "job.state" and e.data.get("to") == "completed", what="the job's end")
        check(int(found.id) < int(done.id), "the profile is there first")
        events.close()
        best = c.get(f"/v1/jobs/{job}").json["best"]["checkpoint"]
        equal((found.data["checkpoint"], found.data["job"], found.data["name"]), (best, job, "fast"))
        profiles = f"/v1/checkpoints/{best}/profiles"
        fast = c.get(f"{profiles}/fast").json
        equal((fast["state"], fast["budget"], fast["dataset"]["name"]), ("ready", 0.9, "glyphs"))
        check(0 < fast["macs_share"] <= 0.9 and fast["images_per_s_1"] > 0 and fast["latency_us"] > 0 and 0 <= fast["val_acc"] <= 1 and fast["draw"], fast)
        all_of_them = c.get(profiles).json
        equal([p["name"] for p in all_of_them["items"]], ["fast"])
        equal(fast["macs"], round(fast["macs_share"] * all_of_them["aom"]["macs"]), "the share")

    with case("live: switching to it, and naming it in every way"):
        d.deploy("live", job)
        modes = c.get("/v1/deployments/live/mode").json["bundles"]
        equal(sorted(modes), ["aom", "dom", "dom:fast"])
        equal((modes["dom:fast"]["acc"], modes["dom:fast"]["macs"]), (fast["val_acc"], fast["macs"]))
        by_mode = {m: classify(d, m) for m in modes}
        equal({m: a["mode"] for m, a in by_mode.items()}, {m: m for m in modes})
        recorded = c.get(f"/v1/checkpoints/{best}").json["info"]["draw"]                # may be the searched profile
        check(len({str(logits(a)) for a in by_mode.values()}) == (2 if recorded == fast["draw"] else 3), "every mode has an answer of its own")
        equal(by_mode["dom:fast"]["macs"], fast["macs"])
        equal(classify(d, None)["mode"], "aom")
        switched = c.put("/v1/deployments/live/mode", {"mode": "dom:fast", "reason": "cheaper"}, want=200).json
        equal((switched["mode"], switched["previous"], switched["generation"]), ("dom:fast", "aom", 2))
        equal(logits(classify(d)), logits(by_mode["dom:fast"]))
        equal(logits(classify(d, headers={**PNG, "WASD-Mode": "aom"})), logits(by_mode["aom"]))
        tensor = {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0.1] * 3072}]}
        asked = [("/v2/models/live/infer", {"parameters": {"was_mode": "dom:fast"}}), ("/v2/models/live%40dom%3Afast/infer", {}), ("/v2/models/live@dom:fast/infer", {}),
                 ("/v2/models/live/versions/1-dom:fast/infer", {}), ("/v2/models/live/infer?mode=dom:fast", {}), ("/v2/models/live/infer", {})]
        answers = [c.post(url, {**tensor, **more}, want=200).json for url, more in asked]
        equal({a["parameters"]["was_mode"] for a in answers}, {"dom:fast"})
        equal(len({str(a["outputs"][0]["data"]) for a in answers}), 1)
        check('wasd_mode_info{deployment="live",mode="dom:fast"} 1' in c.get("/metrics").body.decode(), "the metric")
        equal(classify(d, "dom:none", want=400)["code"], "bad_parameter")

    with case("a second profile arrives while the model is served"):
        events = Events(d.port, "/v1/events?topics=deployments")
        c.post(profiles, {"name": "least", "desire": "macs", "budget": 0.7, "evaluations": 40}, want=202)
        least = wait_profile(d, f"{profiles}/least")
        check(least["macs_share"] <= 0.7, least)
        while "dom:least" not in c.get("/v1/deployments/live/mode").json["bundles"]:     # the process loads the profile after the row is written
            events.until(lambda e: e.type == "deployment.state", what="the deployment with another mode")
        events.close()
        a = classify(d, "dom:least")
        equal((a["mode"], a["macs"]), ("dom:least", least["macs"]))
        given = c.post(profiles, {"draw": least["draw"]}, want=202).json
        given = wait_profile(d, given["links"]["self"])
        equal((given["desire"], given["macs"]), ("draw", least["macs"]))
        for wrong, pointer in (({"draw": [{"layer": "nowhere"}]}, "/draw/0"), ({"desire": "macs", "budget": 0.01}, "/budget")):
            problem = c.post(profiles, wrong, want=422).json
            check(problem["errors"][0]["pointer"].startswith(pointer), problem)

    with case("as a file"):
        model = c.get(f"/v1/checkpoints/{best}/file?format=onnx&mode=dom:fast")
        check(model.body.startswith(b"\x08\x07\x12\x04wasd"), "an ONNX model")
        check(model.headers["Content-Disposition"].endswith('-dom-fast.onnx"'), model.headers["Content-Disposition"])
        check(model.body != c.get(f"/v1/checkpoints/{best}/file?format=onnx&mode=aom").body, "another one than aom's")
        equal(c.get(f"/v1/checkpoints/{best}/file?format=onnx&mode=dom:none", want=422).json["code"], "unsupported")

    with case("from the command line: the table, another search, a given draw, the file; clear errors"):
        url, here = ("--url", f"http://127.0.0.1:{d.port}"), directory()
        table = [line.split() for line in wasd("profiles", best, *url).splitlines()]
        equal((table[0][0], table[1][0], table[1][2]), ("MODE", "aom", str(all_of_them["aom"]["macs"])))
        equal({row[0]: row[1:3] for row in table[2:]}["dom:fast"], ["ready", str(fast["macs"])])
        row = wasd("profiles", best, "--macs", "0.95", "--evaluations", "10", "--wait", *url).splitlines()[-1].split()
        equal(row[:2], ["dom:macs-95", "ready"])
        with open(f"{here}/draw.json", "w") as f:
            json.dump(fast["draw"], f)
        row = wasd("profiles", best, "--draw", f"{here}/draw.json", "--name", "same", "--wait", *url).splitlines()[-1].split()
        equal(row[:3], ["dom:same", "ready", str(fast["macs"])])
        check("below the cheapest draw that this law allows" in wasd("profiles", best, "--macs", "0.01", "--wait", *url, rc=1), "why not")
        check("at most 1" in wasd("profiles", best, "--macs", "2", *url, rc=1), "the daemon's words")
        check("no checkpoint ckpt_none" in wasd("profiles", "ckpt_none", *url, rc=1), "the daemon's words")
        check("--macs x is not a number" in wasd("profiles", best, "--macs", "x", *url, rc=1), "not a number")
        for wrong in ((), ("a/b",), (best, "--wait"), (best, "--macs", "0.5", "--latency-us", "5"), (best, "--macs")):
            wasd("profiles", *wrong, rc=2)
        check("--latency-us" in wasd("profiles", "--help"), "help")
        wasd("export", best, "--format", "onnx", "--mode", "dom:fast", "--output", f"{here}/fast.onnx", *url)
        with open(f"{here}/fast.onnx", "rb") as f:
            equal(f.read(), model.body)

    with case("a profile in use is not deleted; another one is deleted at once"):
        refused = c.delete(f"{profiles}/fast", want=409).json
        equal(refused["code"], "referenced")
        check("deployment live" in refused["detail"], refused["detail"])
        events = Events(d.port, "/v1/events?topics=deployments")
        c.delete(f"{profiles}/least", want=204)
        c.get(f"{profiles}/least", want=404)
        while "dom:least" in c.get("/v1/deployments/live/mode").json["bundles"]:
            events.until(lambda e: e.type == "deployment.state", what="the deployment without that mode")
        events.close()
        equal(classify(d, "dom:least", want=400)["code"], "bad_parameter")

    with case("kill -9 in the middle of a search: it completes after the restart, and the mode is unchanged"):
        events = Events(d.port, "/v1/events?topics=checkpoints")
        c.post(profiles, {"name": "again", "desire": "macs", "budget": 0.75, "evaluations": 300}, want=202)
        events.until(lambda e: e.data["name"] == "again" and e.data["state"] == "searching", what="the search")
        d.kill()
        events.close()
        d.start()
        c = d.client
        again = wait_profile(d, f"{profiles}/again")
        check(again["macs_share"] <= 0.75, again)
        d.wait_deployment("live")
        equal(c.get("/v1/deployments/live/mode").json["mode"], "dom:fast")
        equal(logits(classify(d)), logits(by_mode["dom:fast"]))

    with case("deleting a profile stops its search"):
        events = Events(d.port, "/v1/events?topics=checkpoints")
        c.post(profiles, {"name": "long", "desire": "macs", "budget": 0.7, "evaluations": 5000}, want=202)
        events.until(lambda e: e.data["name"] == "long" and e.data["state"] == "searching", what="the search")
        c.delete(f"{profiles}/long", want=204)
        events.until(lambda e: e.data["name"] == "long" and e.data["state"] == "deleted", what="the deletion")
        c.post(profiles, {"name": "next", "desire": "macs", "budget": 0.9, "evaluations": 5}, want=202)
        wait_profile(d, f"{profiles}/next")
        events.close()

    with case("kill -9 while a job only waits for its profile: it completes when the profile is ready, and has it once"):
        events = Events(d.port, "/v1/events?topics=checkpoints")
        job = d.submit(**{**SPEC, "model": DEEP, "was": {"transforms": [{"type": "translate"}], "layers": "all"}, "profiles": [{"desire": "macs", "budget": 0.8, "evaluations": 400}]})["id"]
        row = events.until(lambda e: e.data["job"] == job and e.data["state"] == "searching", what="the search")
        equal(c.get(f"/v1/jobs/{job}").json["progress"]["phase"], "searching profile macs-80")
        d.kill()
        events.close()
        d.start()
        c = d.client
        ended = d.wait_job(job)
        equal((ended["attempt"], ended["message"], ended["best"]["checkpoint"]), (1, None, row.data["checkpoint"]))
        found = c.get(f"/v1/checkpoints/{row.data['checkpoint']}/profiles").json["items"]
        equal([(p["id"], p["name"], p["state"]) for p in found], [(row.data["profile"], "macs-80", "ready")])

finish()
