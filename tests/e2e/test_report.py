#!/usr/bin/python3
"""GET /v1/jobs/{id}/report: numbers of each mode on the held-out images, which must agree with the training's own measurement and with what a
deployment of the checkpoint answers; kept over a restart; an error when the data set is gone."""
import math, os

from lib import Daemon, case, check, equal, finish

SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all", "transforms": [{"type": "translate", "x": 0.3, "y": 0.3}]},
        "train": {"epochs": 3, "batch": 16, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.002}}}

with Daemon() as d:
    c = d.client
    d.glyphs(train=400, test=50)
    job = d.wait_job(d.submit(**SPEC)["id"])
    url = f"/v1/jobs/{job['id']}/report"

    with case("report: 202 while it is computed, then the report"):
        first = c.get(url, want=(200, 202)).json
        check("images" in first or first["state"] == "computing", first)
        r = c.get(url + "?wait=60s").json
        equal((r["job"], r["checkpoint"], r["images"], len(r["classes"])), (job["id"], job["best"]["checkpoint"], 40, 10))
        check(r["epoch_s"] > 0, r["epoch_s"])

    with case("report: its numbers agree with each other and with the training's measurement"):
        for mode in ("aom", "dom"):
            m = r["modes"][mode]
            equal(round(m["accuracy"], 6), round(job["best"]["metrics"][f"val_acc_{mode}"], 6), mode)
            check(math.isclose(m["loss"], job["best"]["metrics"][f"val_loss_{mode}"], rel_tol=1e-3), (m["loss"], job["best"]["metrics"]))
            equal(sum(map(sum, m["confusion"])), 40, mode)
            right = sum(m["confusion"][i][i] for i in range(10))
            equal(round(right / 40, 6), round(m["accuracy"], 6), mode)
            equal([n for n, _ in m["per_class"]], [sum(row) for row in m["confusion"]])
            equal(sum(n for n, _, _ in m["calibration"]), 40)
            equal(round(sum(n * acc for n, _, acc in m["calibration"] if n)), right, mode)
            check(all(b / 10 - 1e-9 <= sure <= (b + 1) / 10 + 1e-9 for b, (n, sure, _) in enumerate(m["calibration"]) if n), m["calibration"])
            ece = sum(n / 40 * abs(acc - sure) for n, sure, acc in m["calibration"] if n)
            check(math.isclose(ece, m["ece"], abs_tol=1e-9), (ece, m["ece"]))
            equal(len(m["worst"]), min(20, 40 - right), mode)
            equal([w[3] for w in m["worst"]], sorted((w[3] for w in m["worst"]), reverse=True))
            equal(sum(n for _, _, n in m["top_errors"]), 40 - right, "fewer than 20 kinds of errors")
        check(r["modes"]["dom"]["macs"] < r["modes"]["aom"]["macs"], r["modes"])

    with case("report: the worst mistakes are images of the data set, which a deployment mistakes too"):
        d.deploy("reader", job["id"])
        for image, label, said, p in r["modes"]["aom"]["worst"][:3]:
            picture = c.get(f"/v1/datasets/glyphs/preview?i={image}&split=train")
            top = c.post("/v1/deployments/reader/classify?mode=aom", picture.body, headers={"Content-Type": "image/png"}).json["results"][0]["top"][0]
            equal((top["index"], round(top["p"], 3)), (said, round(p, 3)), f"image {image}, which is {label}")

    with case("report: on the test images"):
        t = c.get(url + "?wait=60s&split=test").json
        equal((t["split"], t["images"], r["split"]), ("test", 50, "train"))
        for mode in ("aom", "dom"):
            m = t["modes"][mode]
            equal(round(m["accuracy"], 6), round(job["best"]["metrics"][f"test_acc_{mode}"], 6), mode)
            for image, label, said, p in m["worst"][:1]:
                picture = c.get(f"/v1/datasets/glyphs/preview?i={image}&split=test")
                top = c.post(f"/v1/deployments/reader/classify?mode={mode}", picture.body, headers={"Content-Type": "image/png"}).json["results"][0]["top"][0]
                equal((top["index"], round(top["p"], 3)), (said, round(p, 3)), f"image {image}, which is {label}")
        equal(c.get(url).json, r, "the report on the held-out images")

    with case("report: a confusion matrix as CSV"):
        rows = [line.split(",") for line in c.get(url + "?format=csv&mode=dom&split=test").body.decode().splitlines()]
        equal(rows[0], ["label", *(f'"{name}"' for name in r["classes"])])
        equal([[int(n) for n in row[1:]] for row in rows[1:]], t["modes"]["dom"]["confusion"])
        equal([row[0] for row in rows[1:]], rows[0][1:])
        c.get(url + "?format=csv&mode=dom:none", want=404)
        c.get(url + "?split=train", want=400)

    with case("report: a searched mode comes in when it is ready, and goes when it is deleted"):
        profiles = f"/v1/checkpoints/{r['checkpoint']}/profiles"
        c.post(profiles, {"name": "light", "desire": "macs", "budget": 0.9, "evaluations": 10})
        found = c.get(f"{profiles}/light?wait=60s").json
        equal(found["state"], "ready", found)
        more = c.get(url + "?wait=60s").json
        equal(sorted(more["modes"]), ["aom", "dom", "dom:light"])
        equal({mode: more["modes"][mode] for mode in r["modes"]}, r["modes"])
        light = more["modes"]["dom:light"]
        equal((light["macs"], round(light["accuracy"], 6), sum(map(sum, light["confusion"]))), (found["macs"], round(found["val_acc"], 6), 40))
        c.delete(f"{profiles}/light")
        equal(c.get(url + "?wait=60s").json, r)

    with case("report: kept over a restart; refused without a checkpoint or without images"):
        d.kill()
        d.start()
        c = d.client
        equal(c.get(url).json, r)
        waiting = d.submit(**dict(SPEC, train=dict(SPEC["train"], epochs=100000)))["id"]
        c.post(f"/v1/jobs/{waiting}:cancel", {"mode": "kill"})
        for name in os.listdir(os.path.join(d.data, "reports")):
            os.unlink(os.path.join(d.data, "reports", name))
        d.wait_job(waiting, "cancelled")
        c.delete("/v1/datasets/glyphs")
        c.get(url + "?wait=60s", want=(404, 409))
        c.get("/v1/jobs/job_none/report", want=404)
finish()
