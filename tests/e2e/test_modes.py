#!/usr/bin/python3
"""The modes of a checkpoint with the real engine: making and measuring them, the list, a mode by wish on a live deployment, refusals, and a kill -9 of
the daemon while one is made."""
import json, os, subprocess

from lib import BUILD, PATIENCE, Daemon, Events, case, check, equal, finish, noise_png

SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"}, "train": {"epochs": 3, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.002}}}
with open("/proc/cpuinfo") as f:
    VNNI = "avx512_vnni" in f.read()
FIGURES = ("val_acc", "macs", "bytes", "us_1", "us_64")


def wasd(*args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=120 * PATIENCE)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout + p.stderr


def settled(c, path, state="ready"):
    for _ in range(10):
        m = c.get(path + "?wait=30s", want=200).json
        if m["state"] in ("ready", "failed"):
            equal(m["state"], state, f"{path}: {m}")
            return m
    raise AssertionError(f"{path} is still {m['state']}")


def by_name(c, modes):
    return {m["name"]: m for m in c.get(modes, want=200).json["items"]}


with Daemon() as d:
    c = d.client
    d.glyphs(train=400, test=100)
    job = d.submit(**SPEC)["id"]
    d.wait_job(job, "completed")
    best = c.get(f"/v1/jobs/{job}").json["best"]["checkpoint"]
    modes = f"/v1/checkpoints/{best}/modes"

    with case("the checkpoint's own modes are listed, and measured when asked for"):
        own = by_name(c, modes)
        equal({m: (own[m]["kind"], own[m]["state"], own[m]["profile"]) for m in own}, {"aom": ("plain", "ready", None), "dom": ("draw", "ready", None)})
        check(all(m["us_1"] is None and m["bytes"] is None and m["val_acc"] is not None and m["macs"] > 0 for m in own.values()), own)
        c.post(modes + ":measure", {}, want=202)
        for _ in range(10):
            found = c.get(modes + "?wait=30s").json
            if found["measuring"] is None:
                break
        equal(found["measuring"], None)
        for m in found["items"]:
            check(all(m[f] is not None and m[f] > 0 for f in FIGURES) and m["measured_at"], m)
            check(abs(m["val_acc"] - own[m["name"]]["val_acc"]) < 0.02 and m["macs"] == own[m["name"]]["macs"], (m, own[m["name"]]))
        info = c.get(f"/v1/checkpoints/{best}").json["info"]["measured"]
        equal(sorted(info), ["aom", "at", "dom"])

    with case("a mode is made by its desire, named by its options, and follows the list's names"):
        made = c.post(modes, {"desire": "macs", "budget": 0.9, "evaluations": 20}, want=202)
        equal((made.json["name"], made.json["kind"], made.json["desire"], made.json["options"]), ("dom:macs-90", "draw", "macs", {"budget": 0.9, "evaluations": 20}))
        equal(made.headers["Location"], f"{modes}/dom:macs-90")
        m = settled(c, f"{modes}/dom:macs-90")
        check(m["macs_share"] <= 0.9 and all(m[f] > 0 for f in FIGURES), m)
        equal(c.get(f"{modes}/dom%3Amacs-90").json, m)
        equal(c.post(modes, {"desire": "macs", "budget": 0.9, "evaluations": 20}, want=200).json["profile"], m["profile"])
        equal(c.post(modes, {"desire": "macs", "budget": 0.8, "name": "macs-90"}, want=409).json["code"], "name_taken")
        equal(c.get(f"/v1/checkpoints/{best}/profiles/macs-90").json["id"], m["profile"])      # the older name of the same thing
        equal([i["name"] for i in c.get(modes).json["items"]], ["aom", "dom", "dom:macs-90"])

    with case("what cannot be is refused with its pointer"):
        for body, pointer in (({}, "/desire"), ({"desire": "int9"}, "/desire"), ({"desire": "macs"}, "/budget"), ({"desire": "macs", "budget": 0.01}, "/budget"),
                              ({"desire": "macs", "budget": 0.9, "name": "aom"}, "/name"), ({"desire": "latency", "budget": 1}, "/budget")):
            problem = c.post(modes, body, want=422).json
            check(any(e["pointer"] == pointer for e in problem["errors"]), (body, problem))
        equal(c.get(f"{modes}/dom:none", want=404).json["code"], "not_found")
        equal(c.delete(f"{modes}/aom", want=409).json["code"], "conflict")
        for kind in c.get("/v1/capabilities").json["mode_kinds"]:
            for desire in kind["desires"]:
                problem = c.post(modes, {"desire": desire["name"], "nothing": 1}, want=422).json
                check(any(e["pointer"] == "/nothing" for e in problem["errors"]), problem)

    with case("live: a mode by wish"):
        d.deploy("live", job)
        now = by_name(c, modes)
        mode = "/v1/deployments/live/mode"
        fastest = min(now.values(), key=lambda m: m["us_1"])
        least = min(now.values(), key=lambda m: m["macs"])
        most = max(now.values(), key=lambda m: m["val_acc"])
        chosen = c.put(mode, {"mode": {"max_macs": least["macs"]}}, want=200).json
        check(now[chosen["mode"]]["macs"] == least["macs"], chosen)
        equal(c.get(mode).json["mode"], chosen["mode"])
        chosen = c.put(mode, {"mode": {"within_us": 1e9}}, want=200).json
        equal(now[chosen["mode"]]["val_acc"], most["val_acc"])
        chosen = c.put(mode, {"mode": {"min_accuracy": 0}}, want=200).json
        equal(chosen["mode"], fastest["name"])
        chosen = c.put(mode, {"mode": {"max_bytes": 1e15, "min_accuracy": most["val_acc"]}}, want=200).json
        equal(now[chosen["mode"]]["val_acc"], most["val_acc"])
        audit = json.dumps(c.get("/v1/audit?object=deployment/live").json["items"])
        check("max_macs" in audit, f"the wish is the reason of the switch from aom: {audit}")       # a wish for the mode that is on switches nothing
        before = c.get(mode)
        for wish, word in (({"within_us": 1}, "us"), ({"min_accuracy": 1}, "validation accuracy"), ({"max_macs": 1}, least["name"])):
            if wish.get("min_accuracy") and most["val_acc"] == 1:
                continue
            problem = c.put(mode, {"mode": wish}, want=422).json
            check(problem["errors"][0]["pointer"] == "/mode" and "the nearest is" in problem["detail"] and word in problem["detail"], problem)
        for wrong in ({}, {"within": 3}, {"within_us": "fast"}, {"within_us": 0}, 7):
            equal(c.put(mode, {"mode": wrong}, want=422).json["code"], "invalid_field")
        equal(c.put(mode, {"mode": {"min_accuracy": 0}}, want=412, headers={"If-Match": '"g1"'}).json["code"], "stale")
        equal(c.get(mode).json["generation"], before.json["generation"])
        c.put(mode, {"mode": "dom:macs-90"}, want=200)
        equal(c.post("/v1/deployments/live/classify", noise_png(1), headers={"Content-Type": "image/png"}, want=200).json["mode"], "dom:macs-90")
        equal(c.delete(f"{modes}/dom:macs-90", want=409).json["code"], "referenced")
        c.put(mode, {"mode": "aom"}, want=200)

    with case("a wish for a new deployment, and in a PATCH with and without a source: the mode that it chooses, or 422 and nothing"):
        new = {"name": "wished", "source": {"checkpoint": best}}
        for wish, word in (({"within_us": 1}, "the nearest is"), ({"max_macs": 1}, least["name"]), ({"min_accuracy": 2}, "min_accuracy")):
            problem = c.post("/v1/deployments", {**new, "mode": wish}, want=422).json
            check(problem["errors"][0]["pointer"].startswith("/mode") and word in problem["detail"], problem)
            equal(c.get("/v1/deployments/wished", want=404).json["code"], "not_found")
        made = c.post("/v1/deployments?wait=30s", {**new, "mode": {"max_macs": least["macs"]}}, want=201).json
        equal(now[made["mode"]]["macs"], least["macs"])
        check("max_macs" in json.dumps(c.get("/v1/audit?object=deployment/wished").json["items"]), "the wish is the reason")
        c.request("PATCH", "/v1/deployments/wished", {"mode": {"max_macs": 1}, "required": False}, want=422)
        equal(c.get("/v1/deployments/wished").json, made)
        c.request("PATCH", "/v1/deployments/wished", {"mode": {"max_bytes": 1e15}}, want=200)
        equal(now[c.get("/v1/deployments/wished/mode").json["mode"]]["val_acc"], most["val_acc"])
        c.request("PATCH", "/v1/deployments/wished", {"mode": {"min_accuracy": 0}, "source": {"job": job, "follow": "best"}, "reason": "fast"}, want=200)
        there = c.get("/v1/deployments/wished").json
        equal((there["mode"], there["source"]), (fastest["name"], {"job": job, "follow": "best"}))
        c.post("/v1/deployments", {**new, "name": "later", "mode": "auto"}, want=422)
        c.delete("/v1/deployments/wished", want=204)

    with case("from the command line"):
        url = ("--url", f"http://127.0.0.1:{d.port}")
        table = [line.split() for line in wasd("modes", best, *url).splitlines()]
        equal([row[0] for row in table], ["MODE", "aom", "dom", "dom:macs-90"])
        equal(table[1][:5], ["aom", "plain", "ready", f"{now['aom']['val_acc']:.4f}", str(now["aom"]["macs"])])
        row = wasd("modes", best, "macs", "--set", "budget=0.95", "--set", "evaluations=8", "--name", "light", "--wait", *url).splitlines()[-1].split()
        equal(row[:3], ["dom:light", "draw", "ready"])
        check("budget" in wasd("modes", best, "macs", "--set", "budget=2", *url, rc=1), "the daemon's words")
        wasd("modes", best, "--measure", "--wait", *url)
        check("not being measured" in (said := wasd("modes", best, "--cancel", *url, rc=1)), said)
        wasd("modes", best, "--measure", *url)
        wasd("modes", best, "--cancel", *url)
        equal(c.get(modes).json["measuring"], None)
        wasd("modes", best, "macs", "--set", "budget=0.95", "--set", "evaluations=5000", "--name", "gone", *url)
        equal(wasd("modes", best, "--delete", "dom:gone", *url).strip(), "deleted")
        c.get(f"{modes}/dom:gone", want=404)
        wasd("modes", best, "--delete", "dom:gone", *url, rc=1)
        wasd("modes", best, "--delete", "dom:light", "--measure", *url, rc=2)
        check("live: " in wasd("mode", "live", "--max-macs", str(least["macs"]), *url), "the switch")
        check("the nearest is" in wasd("mode", "live", "--within-us", "1", *url, rc=1), "why not")
        wasd("mode", "live", "aom", "--min-accuracy", "0.5", *url, rc=2)
        wasd("mode", "live", "aom", *url)
        check("the nearest is" in wasd("deploy", best, "--name", "small", "--max-bytes", "1", *url, rc=1), "why not")
        wasd("deploy", best, "--name", "small", "--max-macs", "many", *url, rc=2)
        wasd("deploy", best, "--name", "small", "--mode", "aom", "--max-macs", "1", *url, rc=2)
        check("small is ready: mode " in wasd("deploy", best, "--name", "small", "--min-accuracy", "0", "--wait", *url), "the mode that was chosen")
        c.delete("/v1/deployments/small", want=204)

    with case("a deleted mode is gone from the list and from the process"):
        c.delete(f"{modes}/dom:light", want=204)
        c.get(f"{modes}/dom:light", want=404)

    with case("a job's modes: what can be refused at submission is, and the dry run lists them"):
        spec = {**SPEC, "train": {**SPEC["train"], "epochs": 1}}
        for members, pointer in (({"modes": [{}]}, "/modes/0/desire"), ({"modes": [7]}, "/modes/0"), ({"modes": [{"desire": "int9"}]}, "/modes/0/desire"),
                                 ({"modes": [{"desire": "macs"}]}, "/modes/0/budget"), ({"modes": [{"desire": "macs", "budget": 0.01}]}, "/modes/0/budget"),
                                 ({"modes": [{"desire": "macs", "budget": 0.9, "dataset": "glyphs"}]}, "/modes/0/dataset"),
                                 ({"modes": [{"desire": "int8", "images": 1}]}, "/modes/0/images"), ({"modes": [{"desire": "int8", "base": "dom:light"}]}, "/modes/0/base"),
                                 ({"modes": [{"desire": "int8", "base": "slim"}]}, "/modes/0/base"), ({"modes": [{"desire": "int8", "base": "int8:plain"}]}, "/modes/0/base"),
                                 ({"modes": [{"desire": "macs", "budget": 0.9, "name": "a"}], "profiles": [{"desire": "macs", "budget": 0.8, "name": "a"}]}, "/modes/0/name"),
                                 ({"modes": [{"desire": "macs", "budget": 0.9, "name": f"a{i}"} for i in range(9)]}, "/modes"),
                                 ({"modes": [{"desire": "macs", "budget": 0.9}], "profiles": [{"desire": "macs", "budget": 0.8, "name": f"a{i}"} for i in range(8)]}, "/modes"),
                                 ({"modes": [{"desire": "macs", "budget": 0.9}], "on_complete": {"deploy": {"name": "after", "mode": "dom:macs-80"}}}, "/on_complete/deploy/mode"),
                                 ({"was": False, "modes": [{"desire": "macs", "budget": 0.9}]}, "/modes/0/desire")):
            problem = c.post("/v1/jobs", {**spec, **members}, want=422).json
            check(any(e["pointer"] == pointer for e in problem["errors"]), (members, problem))
        plan = c.post("/v1/jobs?dry_run=true", {**spec, "modes": [{"desire": "macs", "budget": 0.9}], "profiles": [{"desire": "macs", "budget": 0.8}]}, want=200).json
        equal((plan["estimate"]["modes"], plan["modes"]), (["dom:macs-80", "dom:macs-90"], [{"desire": "macs", "budget": 0.9, "name": "macs-90"}]))
        check("modes" not in c.post("/v1/jobs?dry_run=true", spec, want=200).json, "a spec without modes keeps its digest")

    with case("a job's modes are made of its best checkpoint before it completes, across a kill -9 of the daemon; its message says which failed"):
        eight = [{"desire": "int8", "base": "dom:slow", "images": 32}] if VNNI else []
        names = ["dom:slow", *(["int8:dom-slow-32"] if VNNI else []), "dom:latency-1us", "dom:macs-80"]
        follow = {"deploy": {"name": "after", "mode": names[VNNI]}}
        events = Events(d.port, "/v1/events?topics=checkpoints")
        last = d.submit(**spec, modes=[{"desire": "macs", "budget": 0.95, "evaluations": 600, "name": "slow"}, *eight, {"desire": "latency", "budget_us": 1, "evaluations": 8}],
                        profiles=[{"desire": "macs", "budget": 0.8, "evaluations": 8}], on_complete=follow)["id"]
        made = events.until(lambda e: e.data["name"] == "slow" and e.data["state"] == "searching", what="the making").data["checkpoint"]
        now = by_name(c, f"/v1/checkpoints/{made}/modes")
        equal({m: now[m]["state"] for m in names}, {m: {"dom:slow": "searching", "dom:macs-80": "ready"}.get(m, "queued") for m in names})
        d.kill()
        events.close()
        d.start()
        c = d.client
        ended = d.wait_job(last, "completed")
        check(ended["message"].startswith("mode dom:latency-1us: ") and ";" not in ended["message"], ended["message"])
        now = by_name(c, f"/v1/checkpoints/{ended['best']['checkpoint']}/modes")
        equal({m: now[m]["state"] for m in names}, {m: "failed" if "latency" in m else "ready" for m in names})
        equal((ended["on_complete"]["state"], c.get("/v1/deployments/after?wait=30s").json["mode"]), ("done", names[VNNI]))
        c.delete("/v1/deployments/after", want=204)

    with case("a kill -9 while a mode is made and the own modes wait: both are done after the start"):
        c.post(modes, {"desire": "macs", "budget": 0.95, "evaluations": 5000, "name": "long"}, want=202)
        c.post(modes + ":measure", {}, want=202)
        for _ in range(100):
            long = c.get(f"{modes}/dom:long").json
            if long["state"] == "searching" and long["progress"]["done"] > 0:
                break
        measured = c.get(f"/v1/checkpoints/{best}").json["info"]["measured"]["at"]
        d.kill()
        d.start()
        c = d.client
        check(by_name(c, modes)["dom:long"]["state"] in ("queued", "searching"), "it is queued again")
        c.delete(f"{modes}/dom:long", want=204)
        for _ in range(10):
            found = c.get(modes + "?wait=30s").json
            if found["measuring"] is None:
                break
        equal((found["measuring"], [m["name"] for m in found["items"]]), (None, ["aom", "dom", "dom:macs-90"]))
        check(c.get(f"/v1/checkpoints/{best}").json["info"]["measured"]["at"] > measured, "measured anew")

finish()
