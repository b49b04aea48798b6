"""Limits of jobs and what the machine leaves the daemon: processors by affinity, threads reserved for inference, threads of a resumed job, memory."""
import os
import sys

from lib import Daemon, case, check, equal, finish

JOB = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all", "transforms": [{"type": "translate"}]}, "train": {"epochs": 2, "batch": 40}}


def machine(d):
    return d.client.get("/v1/system").json["machine"]


def threads(d, **limits):
    return d.client.post("/v1/jobs?dry_run=true&bench=false", {**JOB, "limits": limits}, want=200).json["estimate"]["threads"]


def lines(d, job):
    return d.client.get(f"/v1/jobs/{job}/logs?tail=200").body.decode()


with case("limits: processors by affinity; the engine has as many threads"):
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_of_them)})
    try:
        with Daemon() as d:
            m = machine(d)
            equal((m["affinity"], m["processors"], m["training_threads"], m["inference_threads"]), (1, 1, 1, 1))
            check(m["memory_bytes"] > m["available_bytes"] > 0, str(m))
            check((m["job_memory_limit"], m["job_memory_limit_reason"] == "") in (("cgroup", True), ("rlimit", False)), str(m))
            d.glyphs("glyphs", train=60, test=20)
            equal(threads(d), 1)
    finally:
        os.sched_setaffinity(0, all_of_them)

with Daemon(args=("--threads", "2", "--infer-reserved-threads", "1")) as d:
    d.glyphs("glyphs", train=100, test=20)
    with case("limits: a job over limits.memory_mb ends as oom, at once and with the limit's name"):
        for mb, net in ((150, "vgg16"), (40, "lenet")):
            job = d.submit(**{**JOB, "model": {"arch": net}, "was": False, "limits": {"memory_mb": mb}, "train": {"epochs": 1, "batch": 4096 if net == "lenet" else 8}})["id"]
            j = d.wait_job(job, "failed")
            equal((j["reason"], len(j["attempts"])), ("oom", 1), j["message"])
            check("limits.memory_mb" in j["message"] or "the limit is" in j["message"], j["message"])

    with case("limits: the share of jobs leaves threads free while a deployment exists; a job that goes on keeps its own"):
        equal(threads(d), 2)
        first = d.submit(**JOB)["id"]
        d.wait_job(first)
        job = d.submit(**{**JOB, "train": {**JOB["train"], "epochs": 100000}})["id"]
        d.client.get(f"/v1/jobs/{job}?wait=60s&until=change")
        while not d.client.get(f"/v1/jobs/{job}").json["metrics_latest"]:
            d.client.get(f"/v1/jobs/{job}?wait=30s&until=change")
        d.client.post(f"/v1/jobs/{job}:pause")
        while d.client.get(f"/v1/jobs/{job}").json["state"] != "paused":
            d.client.get(f"/v1/jobs/{job}?wait=30s&until=change")
        d.deploy("live", first)
        equal((threads(d), threads(d, threads=2)), (1, 2), "the share, and what a job asks for")
        d.client.post(f"/v1/jobs/{job}:resume")
        while "goes on at batch" not in lines(d, job):
            d.client.get(f"/v1/jobs/{job}?wait=1s&until=change")
        check("goes on with 2 threads as before; its share is 1 now" in lines(d, job) and "resumed under another" not in lines(d, job), lines(d, job))
        attempts = d.client.get(f"/v1/jobs/{job}").json["attempts"]
        equal([x["build"]["threads"] for x in attempts], [2, 2], "what the attempts record")
        d.client.post(f"/v1/jobs/{job}:cancel", {"mode": "kill"})
        d.wait_job(job, "cancelled")
        d.client.delete("/v1/deployments/live")
        while "live" in [x["name"] for x in d.client.get("/v1/deployments").json["items"]]:
            pass
        equal(threads(d), 2, "after the deployment")
        equal(machine(d)["inference_reserved_threads"], 1)
sys.exit(finish())
