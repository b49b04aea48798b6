#!/usr/bin/python3
"""Modes under traffic: the shares of a split, sticky users, who wins over whom, the agreement of a shadow, the repetitions of a cascade, auto
under load, and what is refused. The numbers that are compared come from the same daemon by requests that name their mode."""
import base64, hashlib, math, struct, threading, time
from collections import Counter

from lib import PATIENCE, Client, Daemon, Events, case, check, equal, finish, noise_png

PNG = {"Content-Type": "image/png"}


def classify(d, image, query="", headers=None):
    return d.client.post(f"/v1/deployments/live/classify?k=10&logits=1{query}", image, want=200, headers={**PNG, **(headers or {})})


def best(row):
    return max(range(len(row)), key=lambda i: row[i])


def eventually(what, condition):
    """The first result that counts as true."""
    end = time.monotonic() + 60 * PATIENCE
    while not (result := condition()):
        check(time.monotonic() < end, what)
    return result


def margin(row):
    """The likeliest class's probability minus the second's."""
    top = sorted((math.exp(x - max(row)) for x in row), reverse=True)
    return (top[0] - top[1]) / sum(top)


with Daemon() as d:
    traffic = lambda body, want=200, **kw: d.client.put("/v1/deployments/live/traffic", body, want=want, **kw)
    d.glyphs(train=600, test=100)
    job = d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 2, "batch": 50, "seed": 3},
                   checkpoint={"every": 1, "keep": {"best": 1, "latest": 2}})
    d.wait_job(job["id"])
    d.deploy("live", job["id"])
    images = [noise_png(i) for i in range(8)]
    logits = {mode: [classify(d, i, f"&mode={mode}").json["results"][0]["logits"] for i in images] for mode in ("aom", "dom")}

    with case("a split shares out exactly, and each answer is that of the mode it names"):
        traffic({"split": {"aom": 3, "dom": 1}})
        seen = []
        for n in range(40):
            a = classify(d, images[n % 8]).json
            equal(a["results"][0]["logits"], logits[a["mode"]][n % 8], f"request {n} in {a['mode']}")
            seen.append(a["mode"])
        for n in range(0, 40, 4):
            equal(Counter(seen[n:n + 4]), {"aom": 3, "dom": 1}, f"requests {n} to {n + 3}")

    with case("a sticky header gives a user one mode, and many users their shares"):
        traffic({"split": {"aom": 1, "dom": 1}, "sticky_header": "X-User"})
        modes = {}
        for user in range(60):
            got = {classify(d, images[0], headers={"x-USER": f"user {user}"}).headers["WASD-Mode"] for _ in range(2)}
            equal(len(got), 1, f"modes of user {user}")
            modes[user] = got.pop()
        check(15 <= Counter(modes.values())["dom"] <= 45, f"{Counter(modes.values())} of 60 users")
        turns = Counter(classify(d, images[0]).json["mode"] for _ in range(10))
        equal(turns, {"aom": 5, "dom": 5}, "requests without the header take turns")

    with case("a request that names its mode gets it, and takes no turn"):
        traffic({"split": {"aom": 1, "dom": 1}})
        first = classify(d, images[0]).json["mode"]
        for _ in range(3):
            equal(classify(d, images[0], headers={"WASD-Mode": first}).json["mode"], first, "header")
            equal(classify(d, images[0], f"&mode={first}").json["mode"], first, "query")
        check(classify(d, images[0]).json["mode"] != first, "the other mode is next")

    with case("under /v2 the split counts as well, and model@mode wins over it"):
        body = {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0.1] * 3072}]}
        mode = lambda name: d.client.post(f"/v2/models/{name}/infer", body, want=200).json["parameters"]["was_mode"]
        equal(Counter(mode("live") for _ in range(10)), {"aom": 5, "dom": 5}, "split")
        equal({mode("live%40dom") for _ in range(3)}, {"dom"}, "live@dom")
        before = classify(d, images[0]).json["mode"]
        d.client.get("/v2/models/live")                # metadata take no turn
        check(classify(d, images[0]).json["mode"] != before, "the other mode is next")

    with case("the policy is shown, audited, told as an event, and survives a restart"):
        policy = {"split": {"aom": 1, "dom": 2}, "sticky_header": "X-User"}
        was = traffic(policy).json
        equal({k: was[k] for k in policy}, policy, "the answer of PUT")
        equal(d.client.get("/v1/deployments/live").json["traffic"], policy, "in the deployment")
        equal(d.client.get("/v1/deployments/live/mode").json["traffic"], policy, "beside the mode")
        row = d.client.get("/v1/audit?object=deployment/live&limit=1").json["items"][0]
        equal((row["action"], row["after"]["traffic"], row["before"]["traffic"]), ("deployment.traffic", policy, {"split": {"aom": 1, "dom": 1}}), "audit")
        d.kill()
        d.start()
        d.wait_deployment("live")
        now = d.client.get("/v1/deployments/live/traffic").json
        equal({k: now[k] for k in policy}, policy, "after kill -9")
        equal(Counter(classify(d, images[0]).json["mode"] for _ in range(6)), {"aom": 2, "dom": 4}, "after kill -9")
        traffic({})
        equal(d.client.get("/v1/deployments/live").json["traffic"], None, "ended")
        equal({classify(d, images[0]).json["mode"] for _ in range(4)}, {"aom"}, "ended")

    with case("If-Match takes the policy's tag or the generation, and refuses older ones"):
        tag = d.client.get("/v1/deployments/live/traffic").headers["ETag"]
        traffic({"split": {"dom": 1}}, headers={"If-Match": tag})
        stale = traffic({"split": {"aom": 1}}, want=412, headers={"If-Match": tag})
        now = d.client.get("/v1/deployments/live/traffic")
        equal(stale.headers["ETag"], now.headers["ETag"], "the current tag")
        equal(now.json["split"], {"dom": 1}, "a stale change changes nothing")
        generation = d.client.get("/v1/deployments/live/mode").headers["ETag"]
        traffic({}, headers={"If-Match": generation})
        traffic({}, want=412, headers={"If-Match": '"g99"'})

    with case("a shadow agrees as often as the two modes do, in total and per class, and keeps images on which they differ"):
        many = [noise_png(100 + i) for i in range(40)]
        rows = {mode: [classify(d, i, f"&mode={mode}").json["results"][0] for i in many] for mode in ("aom", "dom")}
        names = {t["index"]: t["label"] for t in rows["aom"][0]["top"]}
        tops = [(best(a["logits"]), best(b["logits"])) for a, b in zip(rows["aom"], rows["dom"])]
        differ = [i for i, (a, b) in enumerate(tops) if a != b]
        check(0 < len(differ) < 40, f"{len(differ)} of 40 images differ; the test needs both")
        traffic({"shadow": {"mode": "dom", "percent": 100, "examples": 3}})
        stats = lambda: d.client.get("/v1/deployments/live/stats").json

        def settled():
            while (now := stats()["shadow"])["pending"]:
                pass
            return now

        for i, image in enumerate(many):
            equal(classify(d, image).json["mode"], "aom", "the answer is that of the deployment's mode")
            settled()
        classify(d, many[0], "&mode=dom")              # names its mode: not mirrored
        shadow = settled()
        equal((shadow["agree"], shadow["disagree"], shadow["dropped"], shadow["failed"]), (40 - len(differ), len(differ), 0, 0), "counts")
        want = {}
        for a, b in tops:
            want.setdefault(names[a], {"agree": 0, "disagree": 0})["agree" if a == b else "disagree"] += 1
        equal(shadow["classes"], want, "per class")
        equal([(e["answer"], e["shadow"]) for e in sorted(shadow["examples"], key=lambda e: e["id"])], [tuple(names[c] for c in tops[i]) for i in differ[-3:]], "examples")
        for e, i in zip(sorted(shadow["examples"], key=lambda e: e["id"]), differ[-3:]):
            got = d.client.get(f"/v1/deployments/live/shadow/examples/{e['id']}")
            equal((got.headers["Content-Type"], got.body), ("image/png", many[i]), f"example {e['id']}")
        text = d.client.get("/metrics").body.decode()
        for word, n in (("true", 40 - len(differ)), ("false", len(differ))):
            check(f'wasd_shadow_agreement_total{{deployment="live",agree="{word}"}} {n}\n' in text, f"the metric, agree={word}")
        d.client.get("/v1/deployments/live/shadow/examples/999", want=404)
        traffic({"shadow": {"mode": "dom", "percent": 25}})
        for image in many:
            classify(d, image)
            shadow = settled()
        equal(shadow["agree"] + shadow["disagree"] - 40, 10, "a quarter of 40")
        equal(shadow["examples"], [], "examples end with the policy that asked for them")

    with case("a shadow of tensors keeps their pixels"):
        traffic({})
        traffic({"shadow": {"mode": "dom", "percent": 100, "examples": 1}})
        post = lambda name, data, n: d.client.post(f"/v2/models/{name}/infer", {"inputs": [{"name": "input", "shape": [n, 3, 32, 32], "datatype": "FP32", "data": data}],
                                                                                "outputs": [{"name": "logits"}]}, want=200).json
        for seed in range(60):
            data = [((i * 7919 + seed * 104729) % 257) / 64 - 2 for i in range(3072)]
            aom, dom = (post(f"live%40{m}", data, 1)["outputs"][0]["data"] for m in ("aom", "dom"))
            if best(aom) != best(dom):
                break
        else:
            raise AssertionError("both modes agree on 60 tensors")
        post("live", data, 1)
        equal((settled()["disagree"], settled()["agree"]), (1, 0), "counts")
        got = d.client.get("/v1/deployments/live/shadow/examples/1")
        equal((got.headers["Content-Type"], got.body), ("application/octet-stream", struct.pack("<3072f", *data)), "the pixels")
        traffic({})

    with case("a cascade repeats exactly the images below its threshold, and answers with the numbers of the two modes"):
        mode = lambda m, want=200: d.client.put("/v1/deployments/live/mode", {"mode": m}, want=want)
        check("threshold" in mode("cascade", 409).json["detail"], "no threshold yet")
        margins = sorted(margin(row) for row in logits["dom"])
        threshold = (margins[3] + margins[4]) / 2
        traffic({"cascade": {"cheap": "dom", "threshold": threshold}})
        mode("cascade")
        macs = {m: b["macs"] for m, b in d.client.get("/v1/deployments/live/mode").json["bundles"].items()}
        low = [i for i, row in enumerate(logits["dom"]) if margin(row) < threshold]
        equal(len(low), 4, "images below the threshold")
        for i, image in enumerate(images):
            r = classify(d, image)
            a = r.json
            equal((a["mode"], r.headers["WASD-Mode"], a["repeated"], a["macs"]), ("cascade", "cascade", [0] if i in low else [], macs["dom"] + (macs["aom"] if i in low else 0)), f"image {i}")
            equal(a["results"][0]["logits"], logits["aom" if i in low else "dom"][i], f"logits of image {i}")
        together = lambda which, query: d.client.post(f"/v1/deployments/live/classify?logits=1{query}", {"images": [base64.b64encode(images[i]).decode() for i in which]}, want=200).json
        a = together(range(8), "")
        dom, aom = together(range(8), "&mode=dom"), together(low, "&mode=aom")
        equal((a["repeated"], a["macs"]), (low, macs["dom"] + macs["aom"] // 2), "eight images in one request")
        for i in range(8):
            want = aom["results"][low.index(i)] if i in low else dom["results"][i]
            equal((a["results"][i]["logits"], a["results"][i]["top"][0]), (want["logits"], want["top"][0]), f"image {i} of eight")
        equal([together([0], f"&mode={m}")["mode"] for m in ("aom", "dom")], ["aom", "dom"], "a request that names its mode")
        rows = [[((i * 7919 + s * 104729) % 257) / 64 - 2 for i in range(3072)] for s in range(4)]
        alone = [post("live%40dom", row, 1)["outputs"][0]["data"] for row in rows]
        cut = sorted(map(margin, alone))
        traffic({"cascade": {"threshold": (cut[1] + cut[2]) / 2}})
        a = post("live", sum(rows, []), 4)
        dom = post("live%40dom", sum(rows, []), 4)["outputs"][0]["data"]
        low = [i for i in range(4) if margin(dom[i * 10:i * 10 + 10]) < (cut[1] + cut[2]) / 2]
        aom = post("live%40aom", sum((rows[i] for i in low), []), len(low))["outputs"][0]["data"]
        p = a["parameters"]
        equal((p["was_mode"], p["was_repeated"], p["was_repeated_images"]), ("cascade", len(low), ",".join(map(str, low))), "under /v2")
        for i in range(4):
            k = low.index(i) if i in low else i
            equal(a["outputs"][0]["data"][i * 10:i * 10 + 10], (aom if i in low else dom)[k * 10:k * 10 + 10], f"tensor {i}")
        traffic({"cascade": {"threshold": 1}})
        equal(classify(d, images[0]).json["repeated"], [0], "threshold 1 repeats everything")
        traffic({"cascade": {"threshold": 0}})
        equal(classify(d, images[0]).json["repeated"], [], "threshold 0 repeats nothing")
        equal(traffic({"split": {"aom": 1}}, want=409).json["code"], "conflict", "a split beside a cascade")
        mode("aom")
        traffic({})

    with case("auto goes to the cheap mode while requests wait too long, and back to AOM afterwards"):
        events = Events(d.port, "/v1/events?topics=deployments")
        traffic({"auto": {"target_p99_us": 100, "window_ms": 200, "hold_ms": 100}})
        equal(mode("auto").json["mode"], "auto", "the mode")
        equal(classify(d, images[0]).json["mode"], "aom", "without load")
        stop = threading.Event()
        body = {"images": [base64.b64encode(images[i % 8]).decode() for i in range(16)]}

        def load():
            c = Client(d.port)
            while not stop.is_set():
                c.post("/v1/deployments/live/classify", body, want=200)

        threads = [threading.Thread(target=load) for _ in range(8)]
        for t in threads:
            t.start()
        try:
            down = events.until(lambda e: e.type == "deployment.mode" and e.data.get("effective") == "dom", what="auto's switch to dom").data
            equal((down["mode"], down["previous"]), ("auto", "aom"), "the event")
            # If the clients have had no turn for a while, auto has gone back meanwhile, and degrades again.
            eventually("degraded", lambda: classify(d, images[0]).json["mode"] == "dom")
            condition = eventually("a condition", lambda: d.client.get("/v1/deployments/live").json["conditions"])[0]
            equal((condition["type"], condition["mode"]), ("Degraded", "dom"), "the condition")
            check("waited longer than 100 us" in condition["reason"], condition["reason"])
            equal(d.client.get("/v1/deployments/live").json["mode"], "auto", "the deployment's mode stays auto")
        finally:
            stop.set()
            for t in threads:
                t.join()
        up = events.until(lambda e: e.type == "deployment.mode" and e.data.get("effective") == "aom", what="auto's return").data
        events.close()
        equal(up["previous"], "dom", "the event")
        eventually("no condition is left", lambda: not d.client.get("/v1/deployments/live").json["conditions"])
        equal(classify(d, images[0]).json["mode"], "aom", "afterwards")
        rows = d.client.get("/v1/audit?object=deployment/live&actor=auto&limit=500").json["items"]
        equal((rows[-1]["action"], rows[-1]["after"]["effective"], rows[-1]["before"]["effective"]), ("deployment.effective", "dom", "aom"), "audit")
        equal(rows[-1]["reason"], down["reason"], "audit and event give one reason")
        mode("aom")
        traffic({})

    with case("statistics of a window count by mode"):
        stats = lambda: d.client.get("/v1/deployments/live/stats?window=60m").json     # none of the requests below leaves it meanwhile
        n = {m: stats()["window"]["modes"].get(m, {"count": 0, "images": 0, "macs": 0, "repeated": 0}) for m in ("aom", "dom", "cascade")}
        together(range(8), "&mode=aom")
        together(range(3), "&mode=dom")
        now = stats()["window"]["modes"]
        equal(now["aom"]["count"] - n["aom"]["count"], 1, "requests in aom")
        equal((now["aom"]["images"] - n["aom"]["images"], now["dom"]["images"] - n["dom"]["images"]), (8, 3), "images")
        equal((now["aom"]["macs"] - n["aom"]["macs"], now["dom"]["macs"] - n["dom"]["macs"]), (8 * macs["aom"], 3 * macs["dom"]), "multiply-adds")
        check(n["cascade"]["count"] == now["cascade"]["count"] > 0 and now["cascade"]["repeated"] > 0, "the cascade's requests")
        check(now["aom"]["total_us"]["p50"] <= now["aom"]["total_us"]["p99"], "quantiles")
        equal(sum(b["count"] for b in now["dom"]["batches"]), now["dom"]["count"], "batches")
        for bad in ("0s", "61m", "x", "-1s"):
            d.client.get(f"/v1/deployments/live/stats?window={bad}", want=400)
        check(1 <= d.client.get("/v1/deployments/live/stats?window=1s").json["window"]["seconds"] <= 2, "one second")

    with case("a cascade is tuned on the validation images: the curve follows from their answers, and the threshold keeps the share"):
        curve_of = lambda: d.client.get("/v1/deployments/live/traffic?wait=60s").json
        a = d.client.post("/v1/deployments/live/cascade:tune", {"keep": 0.9}, want=202).json
        equal((a["cascade"]["keep"], a["cascade"]["threshold"], a["tuned"]), (0.9, None, None), "the answer")
        now = curve_of()
        t = now["tuned"]
        equal(now["now"]["tuning"], None, "it has ended")
        check("failed" not in t, str(t))
        equal((t["cheap"], t["keep"], now["now"]["threshold"]), ("dom", 0.9, t["threshold"]), "what was tuned")
        curve = t["curve"]
        equal((curve[0][0], curve[0][2], curve[-1][0], curve[-1][2]), (0, 0, 1, 1), "from nothing repeated to everything")
        equal((curve[0][1], curve[-1][1]), (t["accuracy"]["cheap"], t["accuracy"]["aom"]), "accuracies of both ends")
        equal((curve[0][3], curve[-1][3]), (macs["dom"], macs["dom"] + macs["aom"]), "costs of both ends")
        for p, q in zip(curve, curve[1:]):
            check(p[0] < q[0] and p[2] < q[2] and p[3] < q[3], f"{p} before {q}")
        best_epoch = d.client.get(f"/v1/jobs/{job['id']}?fields=best").json["best"]["metrics"]
        check(abs(t["accuracy"]["aom"] - best_epoch["val_acc_aom"]) < 1e-9, f"{t['accuracy']['aom']} and {best_epoch['val_acc_aom']} of the run")
        check(t["accuracy"]["cascade"] >= 0.9 * t["accuracy"]["aom"], "the share is kept")
        at = [p[0] for p in curve].index(t["threshold"])
        check(all(p[1] >= 0.9 * t["accuracy"]["aom"] for p in curve[at:]), "and by every larger threshold")
        check(at == 0 or curve[at][2] - curve[at - 1][2] <= 0.02 + 1e-9, "points are a fiftieth apart")
        mode("cascade")
        equal(classify(d, images[0]).json["repeated"], [0] if margin(logits["dom"][0]) < t["threshold"] else [], "answers follow it")
        d.kill()
        d.start()
        d.wait_deployment("live")
        now = d.client.get("/v1/deployments/live/traffic").json
        equal((now["tuned"], now["now"]["threshold"], now["mode"]), (t, t["threshold"], "cascade"), "after kill -9")
        mode("aom")
        traffic({"cascade": {"keep": 1}})              # PUT starts it as well
        now = curve_of()
        check(now["tuned"]["keep"] == 1 and now["tuned"]["accuracy"]["cascade"] >= now["tuned"]["accuracy"]["aom"], str(now["tuned"])[:300])
        served = d.client.get("/v1/deployments/live").json["checkpoint"]
        other = next(c["id"] for c in d.client.get(f"/v1/jobs/{job['id']}/checkpoints").json["items"] if c["id"] != served)
        d.client.request("PATCH", "/v1/deployments/live?wait=60s", {"source": {"checkpoint": other}}, want=200)
        equal(curve_of()["tuned"]["checkpoint"], other, "another version is tuned anew")
        d.client.request("PATCH", "/v1/deployments/live?wait=60s", {"source": {"checkpoint": served}}, want=200)
        error = d.client.post("/v1/deployments/live/cascade:tune", {"cheap": "aom"}, want=422).json["errors"][0]
        equal(error["pointer"], "/cheap", "aom is not cheap")
        traffic({})

    with case("a profile takes its share of a split, is a cascade's cheap mode, and is not deleted meanwhile"):
        best_id = d.client.get(f"/v1/jobs/{job['id']}?fields=best").json["best"]["checkpoint"]
        light = f"/v1/checkpoints/{best_id}/profiles/light"
        d.client.post(f"/v1/checkpoints/{best_id}/profiles", {"name": "light", "desire": "macs", "budget": 0.8, "evaluations": 4})
        equal(d.client.get(light + "?wait=60s").json["state"], "ready", "the profile")
        traffic({"split": {"dom:light": 1, "aom": 1}})
        eventually("the profile is served", lambda: "dom:light" in d.client.get("/v1/deployments/live/mode").json["bundles"])
        equal(Counter(classify(d, images[0]).json["mode"] for _ in range(6)), {"dom:light": 3, "aom": 3}, "the split")
        check("traffic policy names dom:light" in d.client.delete(light, want=409).json["detail"], "deletion")
        d.client.post("/v1/deployments/live/cascade:tune", {"cheap": "dom:light", "keep": 0.95}, want=202)
        t = curve_of()["tuned"]
        equal((t["cheap"], t["macs"]["cheap"]), ("dom:light", d.client.get("/v1/deployments/live/mode").json["bundles"]["dom:light"]["macs"]), "tuned")
        equal(t["accuracy"]["cheap"], d.client.get(light).json["val_acc"], "the accuracy that its search measured")
        traffic({})
        d.client.delete(light)

    with case("a checkpoint without validation images is not tuned, and says why"):
        blob = d.client.get(f"/v1/checkpoints/{best_id}/file").body
        sha = hashlib.sha256(blob).hexdigest()
        d.client.put(f"/v1/blobs/{sha}", blob)
        d.client.post("/v1/deployments", {"name": "alien", "source": {"blob": sha}})
        d.wait_deployment("alien")
        d.client.post("/v1/deployments/alien/cascade:tune", {}, want=202)
        failed = d.client.get("/v1/deployments/alien/traffic?wait=60s").json
        check("give a threshold" in failed["tuned"]["failed"], str(failed["tuned"]))
        check("no threshold yet" in d.client.put("/v1/deployments/alien/mode", {"mode": "cascade"}, want=409).json["detail"], "no cascade")

    with case("what cannot be is refused with its pointer, and changes nothing"):
        traffic({"split": {"dom": 1}})
        for body, pointer, word in (
                ({"split": {"aom": 1, "tom": 1}}, "/split/tom", "FAMILY:NAME"), ({"split": {"aom": -1}}, "/split/aom", "0 to 1000000"),
                ({"split": {"aom": 0.5}}, "/split/aom", "whole"), ({"split": {}}, "/split", "at least one"), ({"split": {"aom": 0}}, "/split", "at least one"),
                ({"split": [1]}, "/split", "object"), ({"split": {"aom": 1, "dom:none": 1}}, "/split/dom:none", "no mode dom:none"),
                ({"split": {"aom": 1, "auto": 1}}, "/split/auto", "share"), ({"spilt": {}}, "/spilt", "not a known field"),
                ({"shadow": {"percent": 5}}, "/shadow/mode", "missing"), ({"shadow": {"mode": "dom", "percent": 0}}, "/shadow/percent", "above 0"),
                ({"shadow": {"mode": "dom", "examples": 17}}, "/shadow/examples", "0 to 16"), ({"auto": {"cheap": "aom"}}, "/auto/cheap", "another mode"),
                ({"auto": {"cheap": "dom:none"}}, "/auto/cheap", "no mode dom:none"), ({"auto": {"target_p99_us": 1}}, "/auto/target_p99_us", "from 100"),
                ({"cascade": {"threshold": 1.5}}, "/cascade/threshold", "at most 1"), ({"cascade": {"threshold": 0.5, "keep": 0.9}}, "/cascade/keep", "not both"),
                ({"sticky_header": "X-User"}, "/sticky_header", "no split"), ({"split": {"aom": 1}, "sticky_header": "two words"}, "/sticky_header", "name of a header")):
            error = traffic(body, want=422).json["errors"][0]
            equal(error["pointer"], pointer, str(body))
            check(word in error["detail"], f"{body}: {error}")
        d.client.put("/v1/deployments/none/traffic", {}, want=404)
        equal(d.client.get("/v1/deployments/live/traffic").json["split"], {"dom": 1}, "after all of them")

finish()
