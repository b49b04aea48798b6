#!/usr/bin/python3
"""The life of a job between its submission and its end: paused in the middle of an epoch, resumed, retried, cloned. However often it was
interrupted, its losses equal those of an undisturbed run bit for bit. Jobs that are interrupted train until they are ended, so none has
ended by itself before."""
import os, signal

from lib import Daemon, Events, case, check, equal, exact, finish

SPEC = {"name": "run", "dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"}, "retry": {"max": 0},
        "train": {"epochs": 100000, "batch": 32, "seed": 11, "optimizer": {"type": "adamw", "lr": 0.001}, "augment": ["flip"]}}
NAMES = "train_loss,train_acc,val_loss_aom,val_acc_aom,val_loss_dom,val_acc_dom,test_loss_aom,test_acc_dom"


def losses(d, job, epochs):
    return {name: {e: v for e, v in points.items() if e <= epochs} for name, points in exact(d.series(job, NAMES)).items()}


def end(d, job):
    d.client.post(f"/v1/jobs/{job}:cancel", {"mode": "kill"}, want=(200, 202))
    return d.wait_job(job, "cancelled")


def agrees(d, job):
    """The job has gone on for two epochs after its last interruption and is ended: its losses are those of a job that nothing disturbs."""
    until(d, job, "running")
    epochs = max(d.series(job, "train_loss")["train_loss"]) + 2
    trains(d, job, epochs)
    end(d, job)
    other = d.submit(**SPEC)["id"]
    trains(d, other, epochs)
    end(d, other)
    got = losses(d, job, epochs)
    equal(len(got["train_loss"]), epochs)
    equal(got, losses(d, other, epochs), f"{epochs} epochs")


def states(c, job):
    return [(t["from"], t["to"]) for t in c.get(f"/v1/jobs/{job}/transitions").json["items"]]


def until(d, job, *wanted):
    """Waits for one of the states."""
    events = Events(d.port, f"/v1/jobs/{job}/events")
    try:
        j = d.client.get(f"/v1/jobs/{job}").json
        if j["state"] not in wanted:
            events.until(lambda e: e.type == "job.state" and e.data["to"] in wanted, what=f"{wanted} of a job that is {j['state']}")
        return d.client.get(f"/v1/jobs/{job}").json
    finally:
        events.close()


def trains(d, job, epoch):
    """Waits until an epoch is over: the job is in the next one."""
    events = Events(d.port, f"/v1/jobs/{job}/events", last_id=0)
    try:
        events.until(lambda e: e.type == "job.checkpoint" and e.data["epoch"] >= epoch, what=f"the checkpoint of epoch {epoch}")
    finally:
        events.close()


with Daemon(args=["--workers", "1"]) as d:
    c = d.client
    d.glyphs(train=500, test=50)
    short = d.submit(**{**SPEC, "train": {**SPEC["train"], "epochs": 2}})["id"]
    d.wait_job(short)

    with case("a job that is paused twice, once over a kill -9, has the losses of one that was not"):
        job = d.submit(**SPEC)["id"]
        trains(d, job, 2)
        answer = c.post(f"/v1/jobs/{job}:pause", {"reason": "back soon"}, want=(200, 202)).json
        check(answer["state"] in ("pausing", "paused"), answer["state"])
        j = until(d, job, "paused")
        equal((j["state"], j["reason"], j["attempts"][0]["outcome"]), ("paused", "user", "paused"))
        equal(c.post(f"/v1/jobs/{job}/pause", want=200).json["state"], "paused")
        # The worker is free for others meanwhile.
        other = c.post(f"/v1/jobs/{short}:clone", {"name": "other", "train": {"epochs": 1}}, want=201).json
        equal((other["cloned_from"], other["train"]["seed"]), (short, 11))
        d.wait_job(other["id"])
        equal(c.get(f"/v1/jobs/{job}").json["state"], "paused")
        c.post(f"/v1/jobs/{job}:resume", want=200)
        until(d, job, "running")
        worker, = d.engines("train")
        os.kill(worker, signal.SIGSTOP)                # it cannot store its checkpoint: the job stays in pausing
        equal(c.post(f"/v1/jobs/{job}:pause", want=202).json["state"], "pausing")
        equal(c.post(f"/v1/jobs/{job}:resume", want=409).json["code"], "invalid_transition")
        d.kill()
        d.start()
        c = d.client
        equal(c.get(f"/v1/jobs/{job}").json["state"], "paused")
        c.post(f"/v1/jobs/{job}/resume", want=200)
        agrees(d, job)
        equal([a["outcome"] for a in c.get(f"/v1/jobs/{job}").json["attempts"]], ["paused", "interrupted", "cancelled"])
        check(("pausing", "paused") in states(c, job) and ("paused", "queued") in states(c, job), states(c, job))

    with case("a training process gives way to inference: its nice value holds against other sessions, too"):
        job = d.submit(**{**SPEC, "limits": {"nice": 12}})["id"]
        trains(d, job, 1)
        pid = d.engines("train")[0]
        equal(os.getpriority(os.PRIO_PROCESS, pid), 12)
        group = f"/proc/{pid}/autogroup"
        if os.path.exists(group):
            with open(group) as f:
                check(f.read().split()[-2:] == ["nice", "12"], "its group of the scheduler has another nice value")
        end(d, job)

    with case("a job of higher priority takes the worker of a preemptible one, whose losses stay the same"):
        job = d.submit(**{**SPEC, "priority": 10})["id"]
        trains(d, job, 2)
        urgent = d.submit(**{**SPEC, "priority": 90})["id"]
        until(d, job, "preempting", "queued")
        until(d, urgent, "running")
        j = c.get(f"/v1/jobs/{job}").json
        equal((j["state"], j["reason"], j["attempts"][0]["outcome"]), ("queued", "preempted", "preempted"))
        equal((j["queue"]["name"], j["queue"]["position"], j["queue"]["reason"]), ("default", 1, "workers_busy"))
        # Queued behind it, and moved to the front; the preempted job has waited longer than one of equal priority.
        third = d.submit(**{**SPEC, "priority": 10, "train": {**SPEC["train"], "epochs": 1}})["id"]
        equal(c.get(f"/v1/jobs/{third}").json["queue"]["position"], 2)
        c.request("PATCH", f"/v1/jobs/{third}", {"priority": 20}, want=200)
        equal([c.get(f"/v1/jobs/{i}").json["queue"]["position"] for i in (third, job)], [1, 2])
        last = d.submit(**{**SPEC, "after": [third], "train": {**SPEC["train"], "epochs": 1}})["id"]
        equal((c.get(f"/v1/jobs/{last}").json["state"], c.get(f"/v1/jobs/{last}").json["reason"]), ("held", "dependency"))
        end(d, urgent)
        agrees(d, job)
        equal([a["outcome"] for a in c.get(f"/v1/jobs/{job}").json["attempts"]], ["preempted", "cancelled"])
        d.wait_job(last)
        check(c.get(f"/v1/jobs/{third}").json["finished_at"] <= c.get(f"/v1/jobs/{last}").json["started_at"], "one after the other")

    with case("a paused queue starts nothing; a batch acts on what a filter finds"):
        equal(c.request("PATCH", "/v1/queues/night", {"paused": True}, want=201).json["paused"], True)
        night = [d.submit(**{**SPEC, "queue": "night", "train": {**SPEC["train"], "epochs": 1}})["id"] for _ in range(3)]
        equal(c.get(f"/v1/jobs/{night[2]}").json["queue"]["reason"], "queue_paused")
        results = c.post("/v1/jobs:batch", {"action": "cancel", "ids": [night[0], short]}, want=200).json["results"]
        equal([(r["status"], r["code"]) for r in results], [(200, None), (409, "invalid_transition")])
        c.request("PATCH", "/v1/queues/night", {"paused": False}, want=200)
        for job in night[1:]:
            d.wait_job(job)
        results = c.post("/v1/jobs:batch", {"action": "delete", "filter": {"queue": "night"}}, want=200).json["results"]
        equal([(r["id"], r["status"]) for r in results], [(job, 204) for job in night])

    with case("a held job does not begin; a cancelled one goes on when it is retried"):
        job = c.post(f"/v1/jobs/{short}:clone", {"train": {"epochs": SPEC["train"]["epochs"]}}, want=201).json["id"]
        trains(d, job, 2)
        held = d.submit(**SPEC)["id"]
        equal(c.post(f"/v1/jobs/{held}:pause", want=200).json["state"], "held")
        equal(c.post(f"/v1/jobs/{job}:hold", want=409).json["from"], "running")
        end(d, job)
        equal(c.get(f"/v1/jobs/{held}").json["state"], "held")
        check(c.post(f"/v1/jobs/{job}:retry", want=200).json["state"] in ("queued", "starting", "running"), "it is queued again")
        agrees(d, job)
        check(c.get(f"/v1/jobs/{job}").json["attempts"][1]["resume_from"], "it goes on from its checkpoint")
        equal(c.post(f"/v1/jobs/{short}:retry", want=409).json["from"], "completed")
        check(c.post(f"/v1/jobs/{held}:release", want=200).json["state"] in ("queued", "starting", "running"), "it is released")
        end(d, held)

finish()
