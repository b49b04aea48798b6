#!/usr/bin/python3
"""Sweeps: grid, random search and asynchronous successive halving make jobs of a template, whose ranking does not depend on when the daemon is
killed; pause, resume, cancel and delete; what is refused, and where in the request the error is."""
from lib import Daemon, case, check, equal, finish, ranking

TEMPLATE = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": False, "labels": {"team": "a"},
            "train": {"epochs": 2, "batch": 32, "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9}, "schedule": {"type": "cosine"}}}
RATES = {"min": 0.001, "max": 0.3, "log": True}
ASHA = {"name": "halving", "template": TEMPLATE, "space": {"/train/optimizer/lr": RATES, "/train/seed": {"min": 1, "max": 1000, "int": True}},
        "search": {"method": "asha", "max_trials": 6, "divisor": 2, "max_epochs": 4, "concurrency": 3, "metric": "val_loss_aom", "seed": 5}}


with Daemon(args=["--workers", "2"]) as d:
    c = d.client
    d.glyphs(train=160, test=40)

    with case("a grid makes a job of each combination, at most `concurrency` at a time"):
        body = {"name": "grid", "template": TEMPLATE, "search": {"method": "grid", "concurrency": 1},
                "space": {"/train/optimizer/lr": {"values": [0.01, 0.1]}, "/model": {"values": [{"arch": "lenet"}]},
                          "/train/label_smoothing": {"values": [0, 0.1]}}}
        dry = c.post("/v1/sweeps?dry_run=true", body, want=200).json
        sweep = c.post("/v1/sweeps", body, headers={"Idempotency-Key": "g1"}, want=201).json
        again = c.post("/v1/sweeps", body, headers={"Idempotency-Key": "g1"}, want=201)
        equal((again.json["id"], again.headers["Idempotency-Replayed"]), (sweep["id"], "true"))
        equal(c.post("/v1/sweeps", dict(body, name="other"), headers={"Idempotency-Key": "g1"}, want=409).json["code"], "idempotency_conflict")
        w = d.wait_sweep(sweep["id"], "completed")
        trials = sorted(w["trials"], key=lambda t: t["trial"])
        points = [{"/train/optimizer/lr": lr, "/model": {"arch": "lenet"}, "/train/label_smoothing": s} for lr in (0.01, 0.1) for s in (0, 0.1)]
        equal([t["values"] for t in trials], points)
        equal([t["values"] for t in dry["trials"]], points)
        equal(w["counts"], {"trials": 4, "waiting": 0, "active": 0, "paused": 0, "completed": 4, "pruned": 0, "failed": 0, "cancelled": 0})
        values = [t["value"] for t in w["trials"]]
        equal(values, sorted(values, reverse=True))
        equal((w["best"]["trial"], w["best"]["value"], w["rungs"], w["search"]["goal"]), (w["trials"][0]["trial"], values[0], [2], "max"))
        jobs = c.get(f"/v1/jobs?sweep={sweep['id']}&sort=created_at").json["items"]
        equal(sorted((j["trial"], j["name"], j["train"]["optimizer"]["lr"], j["sweep"], j["labels"]) for j in jobs),
              [(i + 1, f"grid-{i + 1}", p["/train/optimizer/lr"], sweep["id"], {"team": "a"}) for i, p in enumerate(points)])
        starts = sorted((j["started_at"], j["finished_at"]) for j in jobs)
        check(all(a[1] <= b[0] for a, b in zip(starts, starts[1:])), f"one after the other: {starts}")
        answer = c.get(f"/v1/sweeps/{sweep['id']}")
        c.get(f"/v1/sweeps/{sweep['id']}", headers={"If-None-Match": answer.headers["ETag"]}, want=304)
        equal([s["id"] for s in c.get("/v1/sweeps?state=completed").json["items"]], [sweep["id"]])
        audit = c.get(f"/v1/audit?object=sweep/{sweep['id']}").json["items"]
        equal([a["action"] for a in audit], ["sweep.create"])

    with case("random search draws the same points from the same seed"):
        body = {"template": TEMPLATE, "space": ASHA["space"], "search": {"method": "random", "max_trials": 3, "seed": 9, "max_epochs": 1}}
        twice = [d.wait_sweep(c.post("/v1/sweeps", body, want=201).json["id"], "completed") for _ in range(2)]
        equal(ranking(twice[0]), ranking(twice[1]))
        equal(twice[0]["name"], "lenet-glyphs")
        points = [tuple(t["values"].values()) for t in twice[0]["trials"]]
        equal(len(set(points)), 3)
        check(all(0.001 <= lr <= 0.3 and 1 <= seed <= 1000 and seed == int(seed) for lr, seed in points), f"points {points}")
        other = c.post("/v1/sweeps?dry_run=true", dict(body, search=dict(body["search"], seed=10)), want=200).json
        check([t["values"] for t in other["trials"]] != [t["values"] for t in sorted(twice[0]["trials"], key=lambda t: t["trial"])], "another seed")

    with case("halving prunes trials; its ranking is the same when the daemon is killed twice"):
        calm = d.wait_sweep(c.post("/v1/sweeps", ASHA, want=201).json["id"], "completed")
        equal(calm["rungs"], [1, 2, 4])
        ends = [(t["reason"], len(t["rungs"])) for t in calm["trials"]]
        check(ends[0] == ("done", 3) and ends[-1] == ("pruned", 1), f"ends: {ends}")
        check(all(reason == ("done" if n == 3 else "pruned") for reason, n in ends), f"ends: {ends}")
        sweep = c.post("/v1/sweeps", ASHA, want=201).json["id"]
        for results in (2, 7):
            d.wait_results(sweep, results)
            d.kill()
            d.start()
            c = d.client
        killed = d.wait_sweep(sweep, "completed")
        equal(ranking(killed), ranking(calm))
        check(not [j for j in c.get("/v1/jobs?state=paused").json["items"]], "no job stays paused")

    with case("a trial that paused at its rungs has the losses of a job that did not"):
        best = c.get(f"/v1/jobs/{killed['best']['job']}").json
        spec = dict(TEMPLATE, train=dict(TEMPLATE["train"], epochs=4, seed=best["train"]["seed"], optimizer=best["train"]["optimizer"]))
        plain = d.submit(**spec)["id"]
        d.wait_job(plain)
        names = "train_loss,train_acc,val_loss_aom,val_acc_aom"
        equal(d.series(best["id"], names), d.series(plain, names))
        equal([a["outcome"] for a in best["attempts"] if a["outcome"] != "interrupted"], ["paused", "paused", "completed"])

    with case("a trial has a value at each of its rungs, also where eval.every does not ask for one"):
        rare = dict(ASHA, template=dict(TEMPLATE, eval={"every": 3}), search=dict(ASHA["search"], max_trials=4))
        w = d.wait_sweep(c.post("/v1/sweeps", rare, want=201).json["id"], "completed")
        equal(w["rungs"], [1, 2, 4])
        equal(len(w["trials"][0]["rungs"]), 3)
        for t in w["trials"]:
            equal([r["epoch"] for r in t["rungs"]], w["rungs"][:len(t["rungs"])])
            check(all(isinstance(r["value"], float) for r in t["rungs"]), t)

    with case("a sweep is paused, also over a kill, resumed and cancelled"):
        long = dict(ASHA, search=dict(ASHA["search"], method="random", max_epochs=100000))
        del long["search"]["divisor"]
        sweep = c.post("/v1/sweeps", long, want=201).json["id"]
        equal(c.delete(f"/v1/sweeps/{sweep}", want=409).json["code"], "conflict")
        first = c.post(f"/v1/sweeps/{sweep}:pause", {"reason": "lunch"}, want=(200, 202)).json
        check(first["state"] in ("pausing", "paused"), first["state"])
        d.wait_sweep(sweep, "paused")
        d.kill()
        d.start()
        c = d.client
        w = c.get(f"/v1/sweeps/{sweep}").json
        equal((w["state"], w["counts"]["active"]), ("paused", 0))
        equal(c.post(f"/v1/sweeps/{sweep}/pause", want=200).json["state"], "paused")
        equal(c.post(f"/v1/sweeps/{sweep}:resume", want=200).json["state"], "running")
        d.wait_sweep(sweep, "running", such=lambda w: w["counts"]["active"])
        c.post(f"/v1/sweeps/{sweep}:cancel", want=(200, 202))
        w = d.wait_sweep(sweep, "cancelled")
        equal({(t["state"], t["reason"]) for t in w["trials"]}, {("cancelled", "sweep")})
        equal(c.post(f"/v1/sweeps/{sweep}:cancel", want=200).json["state"], "cancelled")
        equal(c.post(f"/v1/sweeps/{sweep}:resume", want=409).json["from"], "cancelled")
        job = next(t["job"] for t in w["trials"] if t["job"])
        actions = [a["action"] for a in c.get(f"/v1/audit?object=sweep/{sweep}").json["items"]]
        equal(sorted(actions), ["sweep.cancel", "sweep.create", "sweep.pause", "sweep.resume"])
        c.delete(f"/v1/sweeps/{sweep}?jobs=delete", want=204)
        c.get(f"/v1/sweeps/{sweep}", want=404)
        c.get(f"/v1/jobs/{job}", want=404)
        c.delete(f"/v1/sweeps/{killed['id']}", want=204)
        equal(c.get(f"/v1/jobs/{best['id']}").json["sweep"], None)

    with case("errors name the place in the request, and nothing is stored"):
        before = len(c.get("/v1/sweeps").json["items"])
        lr = "/space/~1train~1optimizer~1lr"

        def asha(**search):
            return {"search": dict(ASHA["search"], **search)}
        for change, pointer in (
                ({"template": dict(TEMPLATE, model={"arch": "none"})}, "/template/model/arch"),
                ({"template": dict(TEMPLATE, dataset="none")}, "/template/dataset"),
                ({"template": []}, "/template"),
                ({"space": {}}, "/space"),
                ({"space": {"/train/optimizer/lr": {"values": [0.1, "fast"]}}} | asha(max_trials=2), lr),
                ({"space": {"/train/optimizer/lr": {"values": [0.1, -1]}}} | asha(max_trials=2), lr),
                ({"space": {"/train/optimizer/lr": {"min": 0, "max": 1, "log": True}}}, lr),
                ({"space": {"/train/optimizer/lr": {"min": 1, "max": 1}}}, lr),
                ({"space": {"/train/optimizer/lr": {"min": 0.1}}}, lr),
                ({"space": {"/train/optimizer/lr": {"values": [0.1], "min": 0}}}, lr),
                ({"space": {"/train/optimizer/lr": {"values": []}}}, lr + "/values"),
                ({"space": {"/train/optimizer/lr": 3}}, lr),
                ({"space": {"/train/optimizer/lr": {"value": [3]}}}, lr + "/value"),
                ({"space": {"train": {"values": [1]}}}, "/space/train"),
                ({"space": {"/name": {"values": ["a"]}}}, "/space/~1name"),
                ({"space": {"/dataset/name/x": {"values": ["a"]}}} | asha(max_trials=1), "/space/~1dataset~1name~1x"),
                ({"space": {"/train/nothing": {"values": [1, 2]}}} | asha(max_trials=2), "/space/~1train~1nothing"),
                ({"space": {"/train": {"values": [{}]}, "/train/seed": {"values": [1]}}}, "/space/~1train~1seed"),
                ({"space": {"/train/epochs": {"values": [1, 2]}}}, "/space/~1train~1epochs"),
                (asha(method="grid"), lr),
                (asha(method="best"), "/search/method"),
                (asha(method="random"), "/search/divisor"),
                (asha(max_trials=1001), "/search/max_trials"),
                (asha(divisor=1), "/search/divisor"),
                (asha(min_epochs=5), "/search/min_epochs"),
                (asha(metric="val_acc_dom"), "/search/metric"),
                (asha(goal="best"), "/search/goal"),
                (asha(speed=1), "/search/speed"),
                (asha() | {"space": {"/train/seed": {"values": [1, 2]}}}, "/search/max_trials"),
                ({"shape": 1}, "/shape")):
            answer = c.post("/v1/sweeps", {**ASHA, **change}, want=(404, 422)).json
            check(pointer in [e["pointer"] for e in answer["errors"]], f"{change}: {answer['errors']}, want {pointer}")
        equal(len(c.get("/v1/sweeps").json["items"]), before)
        c.get("/v1/sweeps/swp_none", want=404)
        c.get("/v1/sweeps?state=lost", want=400)

finish()
