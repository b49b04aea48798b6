#!/usr/bin/python3
"""Jobs with profiles, interrupted at random moments between their first checkpoint and their end: the daemon, the training or the search is killed,
the daemon stopped, or the job cancelled. A job completes when all its profiles are ready, or says which ones failed; an accepted cancellation holds."""
import os, random, signal, time

from lib import PATIENCE, SANITIZED, Daemon, Events, case, check, equal, finish

ROUNDS, SEED = (6 if SANITIZED else 12), int(os.environ.get("WASD_SEED", "20261130"))
STRIKES = ("daemon", "profile", "train", "stop", "cancel")
NAMES = ("light", "lighter")
SPEC = {"name": "struck", "dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"}, "retry": {"max": 10, "backoff_s": 0},
        "train": {"epochs": 2, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.002}},
        "profiles": [{"name": name, "desire": "macs", "budget": budget, "evaluations": 20} for name, budget in zip(NAMES, (0.95, 0.9))]}
MOMENTS = {                                       # the first interruption; a random pause follows
    "checkpoint": lambda e: e.type == "job.checkpoint" and e.data["epoch"] == 2,
    "queued": lambda e: e.type == "checkpoint.profile" and e.data["state"] == "queued",
    "searching": lambda e: e.type == "checkpoint.profile" and e.data["state"] == "searching",
    "first": lambda e: e.type == "checkpoint.profile" and e.data["state"] in ("ready", "failed"),
}


def kill(d, role):
    for pid in d.engines(role):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def strike(d, what, job):
    """The response to a cancellation, otherwise None."""
    if what == "daemon":
        d.kill()
        d.start()
    elif what == "stop":
        equal(d.stop(), 0, "exit status after SIGTERM")
        d.start()
    elif what == "cancel":
        return d.client.post(f"/v1/jobs/{job}/cancel", want=(200, 202, 409))
    else:
        kill(d, what)


def is_over(d, job, answer, what):
    """Checks that the job's promises hold."""
    end = time.monotonic() + 60 * PATIENCE
    while True:
        j = d.client.get(f"/v1/jobs/{job}?wait=20s&until=terminal").json
        if j["state"] in ("completed", "failed", "cancelled"):
            break
        check(time.monotonic() < end, f"{what}: the job is still {j['state']}: {j['progress']}")
    profiles = {p["name"]: p for k in d.client.get(f"/v1/jobs/{job}/checkpoints").json["items"] for p in d.client.get(f"/v1/checkpoints/{k['id']}/profiles").json["items"]}
    shown = {name: p["state"] for name, p in profiles.items()}
    if answer is not None:
        check(answer.status == 409 or j["state"] == "cancelled", f"{what}: answered {answer!r}, became {j['state']}")
        equal(answer.json["from"] if answer.status == 409 else j["state"], j["state"], f"{what}: the answer {answer!r}")
        check(not set(shown.values()) & {"queued", "searching"}, f"{what}: {shown} of a job that is {j['state']}")
    else:
        equal(j["state"], "completed", f"{what}: {j['reason']}: {j['message']}")
    if j["state"] == "completed":
        equal(set(shown), set(NAMES), f"{what}: profiles")
        for name, state in shown.items():
            check(state == "ready" or (state == "failed" and f"profile {name}: " in j["message"]), f"{what}: {shown}, message {j['message']}")
        equal(j["message"] is None, set(shown.values()) == {"ready"}, f"{what}: {shown}, message {j['message']}")
    return j["state"]


with Daemon() as d:
    d.glyphs(train=200, test=40)
    rng, ends = random.Random(SEED), {}
    with case(f"{ROUNDS} jobs with profiles, interrupted at random moments (seed {SEED})"):
        for i in range(ROUNDS):
            what, moment, pause = STRIKES[i % len(STRIKES)], rng.choice(list(MOMENTS)), rng.random() ** 2 * 0.2
            events = Events(d.port, "/v1/events?topics=jobs,checkpoints")
            job = d.submit(**SPEC)["id"]
            events.until(lambda e: (e.data.get("job") == job or e.data.get("id") == job) and MOMENTS[moment](e), what=moment)
            events.close()
            time.sleep(pause)                     # anywhere in between: the moment is the input of the test
            answer = strike(d, what, job)
            if rng.random() < 0.3:
                strike(d, "daemon", job)
            state = is_over(d, job, answer, f"round {i}, {what} {pause:.3f} s after {moment}")
            ends[what, state] = ends.get((what, state), 0) + 1
        print("#", ", ".join(f"{what}: {n} {state}" for (what, state), n in sorted(ends.items())))

finish()
