"""Dry runs: what they say of a job is what the job then takes; measuring goes on beside training, ends with its client, and changes no loss."""
import http.client
import json
import sys

from lib import Daemon, Events, case, check, equal, finish

JOB = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all", "transforms": [{"type": "translate"}]},
       "train": {"epochs": 2, "batch": 40, "optimizer": {"type": "adamw"}}, "limits": {"threads": 1}}


def estimate(d, spec=JOB, bench="true", **changes):
    return d.client.post(f"/v1/jobs?dry_run=true&bench={bench}", {**spec, **changes}, want=200).json["estimate"]


def sizes(d):
    with case("dry run: sizes are those of the job, the places of checkpoints included"):
        said = estimate(d, bench="false")
        equal((said["time"], said["time_missing"]), (None, "not asked for"))
        equal((said["queue"]["position"], said["queue"]["reason"], said["queue"]["eta_s"], said["threads"]), (1, "starting", 0, 1))
        job = d.submit(**JOB)["id"]
        done = d.wait_job(job)
        report = d.client.get(f"/v1/jobs/{job}/report?wait=60s", want=200).json
        equal({m: said["macs"][m] for m in ("aom", "dom")}, {m: report["modes"][m]["macs"] for m in ("aom", "dom")}, "multiply-adds")
        kept = d.client.get(f"/v1/jobs/{job}/checkpoints").json["items"]
        check(all(0 < k["bytes"] - said["checkpoints"]["bytes"] < 40000 for k in kept), f"{said['checkpoints']} against {[k['bytes'] for k in kept]}")
        check(len(kept) <= said["checkpoints"]["kept"] == 2, f"{len(kept)} are kept")
        equal((said["images"], said["steps_per_epoch"], said["epochs"]), ({"train": 270, "val": 30, "test": 60}, 7, 2))
        peak = max(d.series(job)["rss_bytes"].values())
        check(peak / 4 < said["memory"]["bytes"] < peak * 4, f"memory: {said['memory']}, the process took {peak}")
        return done


def times(d):
    with case("dry run: times from steps on this machine; the same question is answered from memory"):
        said = estimate(d)
        t = said["time"]
        check(t, said["time_missing"])
        equal((t["measured"]["beside"], said["time_missing"]), (0, None))
        check(0 < said["steps_per_epoch"] * t["step_s"] <= t["epoch_s"] and abs(t["total_s"] - 2 * t["epoch_s"]) < 1e-9 * t["total_s"], t)
        check(1 <= t["measured"]["steps"] and 2 <= t["measured"]["batch"] <= 40, t)
        equal(estimate(d)["time"]["step_s"], t["step_s"])
        check(estimate(d, train={**JOB["train"], "epochs": 20})["time"]["step_s"] == t["step_s"], "epochs do not change a step")

    with case("dry run: a clone has one too; a job that does not fit is not measured"):
        job = d.client.get("/v1/jobs").json["items"][0]["id"]
        said = d.client.post(f"/v1/jobs/{job}/clone?dry_run=true&bench=false", {"train": {"batch": 10}}, want=200).json
        equal((said["train"]["batch"], said["estimate"]["steps_per_epoch"]), (10, 27))
        big = estimate(d, model={"arch": "vgg16"}, was=False, limits={"memory_mb": 100})
        equal((big["memory"]["fits"], big["time"], big["time_missing"], big["warnings"][0]["code"]), (False, None, "it would not fit into memory", "memory_over_limit"))
        huge = d.client.post("/v1/jobs?dry_run=true", {**JOB, "model": {"arch": "vgg16"}, "train": {"batch": 65536}}, want=422).json
        equal(huge["errors"][0]["pointer"], "/train/batch")
        equal(estimate(d, bench="false", after=[job])["queue"]["reason"], "dependency")


def search(d):
    layers = [{"type": "conv", "out": 2, "stride": 4, "bias": False}, {"type": "batchnorm"}, {"type": "relu"}, {"type": "globalpool"}, {"type": "flatten"}, {"type": "linear", "out": "classes"}]
    spec = {**JOB, "model": {"layers": layers, "init": "he"}, "was": False, "train": {"epochs": 2, "batch": 40, "optimizer": {"type": "rso"}}}

    with case("dry run: an optimizer that searches has a step for every weight, and says what that costs"):
        weights = 27 * 2 + 2 * 2 + 2 * 10 + 10
        said = estimate(d, spec)
        equal((said["params"], said["steps_per_epoch"], said["images"]["train"]), (weights, weights, 270))
        check(f"{weights} steps of 40 images" in {w["code"]: w["message"] for w in said["warnings"]}["long_search"], said["warnings"])
        t = said["time"]
        check(abs(t["images_per_s"] * t["step_s"] - 40) < 1e-6, t)
        equal(estimate(d, {**spec, "train": {**spec["train"], "optimizer": {"type": "rso", "weights_per_batch": 8}}}, "false")["steps_per_epoch"], 7 + 1 + 1 + 3 + 2)
        wrong = d.client.post("/v1/jobs?dry_run=true", {**spec, "was": JOB["was"]}, want=422).json
        equal(wrong["errors"][0]["pointer"], "/was")

    with case("an optimizer that searches: two jobs give the same numbers, and the log says what they take"):
        one, other = d.submit(**spec)["id"], d.submit(**spec)["id"]
        d.wait_job(one)
        d.wait_job(other)
        same = [{k: v for k, v in d.series(j).items() if k in ("train_loss", "rso_flips", "val_loss_aom")} for j in (one, other)]
        equal(same[0], same[1])
        check(len(same[0]["rso_flips"]) == 2 and all(0 < v <= 1 for v in same[0]["rso_flips"].values()) and "lr" not in d.series(one), same[0])
        log = d.client.get(f"/v1/jobs/{one}/logs", want=200).body.decode()
        check("by the first 16 steps an epoch takes about" in log, log)


def beside(d, losses):
    with case("dry run: beside a job that trains; the job's losses stay the same bits"):
        job = d.submit(**{**JOB, "train": {**JOB["train"], "epochs": 100000}})["id"]
        events = Events(d.port, f"/v1/jobs/{job}/events", last_id=0)
        events.until(lambda e: e.type == "job.metric" and e.data["epoch"] >= 1 and "train_loss" in e.data["metrics"], what="an epoch")
        said = estimate(d, train={**JOB["train"], "batch": 20})
        check(said["time"], said["time_missing"])
        equal(said["time"]["measured"]["beside"], 1)
        equal((said["queue"]["position"], said["queue"]["reason"]), (1, "workers_busy"))
        events.until(lambda e: e.type == "job.metric" and e.data["epoch"] >= 2 and "train_loss" in e.data["metrics"], what="another epoch")
        events.close()
        d.client.post(f"/v1/jobs/{job}:cancel", {"mode": "kill"})
        d.wait_job(job, "cancelled")
        cut = d.series(job)["train_loss"]
        equal([cut[1], cut[2]], [losses[1], losses[2]])

    with case("dry run: a client that goes does no harm"):
        c = http.client.HTTPConnection("127.0.0.1", d.port)
        c.request("POST", "/v1/jobs?dry_run=true", json.dumps({**JOB, "train": {"batch": 33}}))
        c.close()
        said = estimate(d, train={**JOB["train"], "batch": 34})
        check(said["time"], said["time_missing"])


with Daemon() as d:
    d.glyphs("glyphs", train=300, test=60)
    losses = d.series(sizes(d)["id"])["train_loss"]
    times(d)
    search(d)
    beside(d, losses)
sys.exit(finish())
