#!/usr/bin/python3
"""Modes under traffic: the shares of a split, sticky users, who wins over whom, and what is refused. The numbers that are compared come
from the same daemon by requests that name their mode."""
from collections import Counter

from lib import Daemon, case, check, equal, finish, noise_png

PNG = {"Content-Type": "image/png"}


def classify(d, image, query="", headers=None):
    return d.client.post(f"/v1/deployments/live/classify?k=10&logits=1{query}", image, want=200, headers={**PNG, **(headers or {})})


with Daemon() as d:
    traffic = lambda body, want=200, **kw: d.client.put("/v1/deployments/live/traffic", body, want=want, **kw)
    d.glyphs(train=600, test=100)
    job = d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 1, "batch": 50, "seed": 3})
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

    with case("what cannot be is refused with its pointer, and changes nothing"):
        traffic({"split": {"dom": 1}})
        for body, pointer, word in (
                ({"split": {"aom": 1, "tom": 1}}, "/split/tom", "dom:PROFILE"), ({"split": {"aom": -1}}, "/split/aom", "0 to 1000000"),
                ({"split": {"aom": 0.5}}, "/split/aom", "whole"), ({"split": {}}, "/split", "at least one"), ({"split": {"aom": 0}}, "/split", "at least one"),
                ({"split": [1]}, "/split", "object"), ({"split": {"aom": 1, "dom:none": 1}}, "/split/dom:none", "no profile none"),
                ({"split": {"aom": 1, "auto": 1}}, "/split/auto", "share"), ({"spilt": {}}, "/spilt", "not a known field"),
                ({"sticky_header": "X-User"}, "/sticky_header", "no split"), ({"split": {"aom": 1}, "sticky_header": "two words"}, "/sticky_header", "name of a header")):
            error = traffic(body, want=422).json["errors"][0]
            equal(error["pointer"], pointer, str(body))
            check(word in error["detail"], f"{body}: {error['detail']}")
        d.client.put("/v1/deployments/none/traffic", {}, want=404)
        equal(d.client.get("/v1/deployments/live/traffic").json["split"], {"dom": 1}, "after all of them")

finish()
