#!/usr/bin/python3
"""kill -9 at 20 random moments of training, of the daemon or of the worker: after every restart the database is intact, every
acknowledged job exists, and the losses of the finished run equal those of an uninterrupted run bit for bit. Then the inference process
is killed under traffic: at most about a second of 503 responses, then correct answers again."""
import os, random, signal, threading, time

from lib import PATIENCE, SANITIZED, Client, Daemon, Events, Stopwatch, case, check, equal, exact, finish, integrity, noise_png

KILLS, SEED = (6 if SANITIZED else 20), int(os.environ.get("WASD_SEED", "20240530"))
SPEC = {"name": "run", "dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"}, "retry": {"max": 100, "backoff_s": 0},
        "train": {"epochs": 12, "batch": 32, "seed": 11, "optimizer": {"type": "adamw", "lr": 0.001}, "augment": ["flip"]}}
NAMES = "train_loss,train_acc,val_loss_aom,val_acc_aom,val_loss_dom,val_acc_dom,test_loss_aom,test_acc_aom,test_loss_dom,test_acc_dom"


with Daemon() as d:
    reference = None
    with case("two uninterrupted runs are equal"):
        d.glyphs(train=1500, test=200)
        runs = []
        for _ in range(2):
            job = d.submit(**SPEC)
            d.wait_job(job["id"])
            runs.append(exact(d.series(job["id"], NAMES)))
        equal(runs[0], runs[1])
        reference = runs[0]
        s = d.series(job["id"], "epoch_s")["epoch_s"]
        epoch_s = sorted(s.values())[len(s) // 2]
        print(f"# an epoch takes {epoch_s:.2f} s; losses {[float.fromhex(v) for v in list(reference['train_loss'].values())[:3]]} ...")

    with case(f"{KILLS} kills at random moments"):
        check(reference, "there is a reference run")
        rng = random.Random(SEED)
        acknowledged, finished, struck = [j["id"] for j in d.client.get("/v1/jobs").json["items"]], [], {"daemon": 0, "worker": 0}
        extra = 0
        current = d.submit(**SPEC)["id"]
        acknowledged.append(current)

        def go_on(job):
            """Waits until the job trains again; a finished job is compared and replaced by the next one."""
            while True:
                events = Events(d.port, f"/v1/jobs/{job}/events")
                j = d.client.get(f"/v1/jobs/{job}").json
                if j["state"] == "running":
                    events.close()
                    return job
                if j["state"] in ("completed", "failed", "cancelled"):
                    events.close()
                    equal(j["state"], "completed", f"{j.get('reason')}: {j.get('message')}")
                    equal(exact(d.series(job, NAMES)), reference, f"the run after {struck} kills")
                    finished.append(job)
                    job = d.submit(**SPEC)["id"]
                    acknowledged.append(job)
                    continue
                events.until(lambda e: e.type == "job.state", timeout=60, what=f"the next state of a job that is {j['state']}")
                events.close()

        for kill in range(KILLS):
            current = go_on(current)
            target, moment = rng.choice(("daemon", "worker")), rng.random() * 1.5 * epoch_s
            time.sleep(moment)                         # a random moment
            if target == "worker" and (workers := d.engines("train")):
                events = Events(d.port, "/v1/events?topics=jobs")      # current may have ended meanwhile: then this is the worker of a waiting job
                os.kill(workers[0], signal.SIGKILL)
                struck["worker"] += 1
                events.until(lambda e: e.type == "job.state", timeout=30, what="word of the worker's end")
                events.close()
            else:
                acknowledged.append(d.submit(**{**SPEC, "name": f"waiting-{extra}", "priority": 1, "train": {**SPEC["train"], "epochs": 1}})["id"])
                extra += 1
                d.kill()
                struck["daemon"] += 1
                integrity(d.data)
                d.start()
            known = {j["id"] for j in d.client.get("/v1/jobs?limit=200").json["items"]}
            equal([j for j in acknowledged if j not in known], [], f"acknowledged jobs missing after kill {kill + 1} of {KILLS} ({target})")
        d.wait_job(current)
        equal(exact(d.series(current, NAMES)), reference, "the last run")
        attempts = d.client.get(f"/v1/jobs/{current}").json["attempts"]
        print(f"# killed {struck}; {len(finished) + 1} interrupted runs equal the reference to the last bit; the last one took {len(attempts)} attempts; seed {SEED}")

    with case("the waiting jobs run too"):
        for j in d.client.get("/v1/jobs?limit=200").json["items"]:
            d.wait_job(j["id"])

    with case("a killed inference process costs about a second of 503 responses, then the answers are the same"):
        d.deploy("live", current)
        path, image = "/v1/deployments/live/classify?logits=1", noise_png(5)
        ask = lambda c: c.post(path, image, want=None, headers={"Content-Type": "image/png"})
        first = ask(d.client)
        equal(first.status, 200, repr(first))
        want = first.json["results"][0]["logits"]
        stop, log, since = threading.Event(), [], Stopwatch()

        def client():
            c = Client(d.port)
            while not stop.is_set():
                r = ask(c)
                log.append((since.s(), r.status, r.json["results"][0]["logits"] if r.status == 200 else r.headers.get("Retry-After")))
                if r.status != 200:
                    time.sleep(0.02)                   # a rejected client pauses before its next request

        threads = [threading.Thread(target=client) for _ in range(4)]
        for t in threads:
            t.start()
        for _ in range(3):
            infer = d.engines("infer")
            equal(len(infer), 1, "inference processes")
            n = len(log)
            os.kill(infer[0], signal.SIGKILL)
            end = time.monotonic() + 30 * PATIENCE
            while d.engines("infer") in ([], infer) or not any(s == 200 for _, s, _ in log[n + 20:]):
                check(time.monotonic() < end, f"no service again; statuses {[s for _, s, _ in log[-5:]]}\n{d.messages(1500)}")
                time.sleep(0.05)
        stop.set()
        for t in threads:
            t.join()
        bad = sorted(t for t, s, _ in log if s != 200)
        equal({s for _, s, _ in log} - {200, 503}, set(), "statuses")
        check(all(x for _, s, x in log if s == 503), "every 503 says when to come back")
        equal({tuple(x) for _, s, x in log if s == 200}, {tuple(want)}, "answers")
        outages, start = [], None
        for t, s, _ in sorted(log, key=lambda row: row[0]):
            if s != 200 and start is None:
                start = t
            elif s == 200 and start is not None:
                outages.append(t - start)
                start = None
        print(f"# {len(log)} requests, {len(bad)} answered 503, outages of {', '.join(f'{s:.2f}' for s in outages)} s")
        check(max(outages, default=0) < 10 * PATIENCE, f"outages of {outages} s")
        equal(d.client.get("/v1/deployments/live").json["state"], "ready")

finish()
