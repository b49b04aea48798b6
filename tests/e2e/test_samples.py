#!/usr/bin/python3
"""What a job's process uses is sampled while it trains: in the series, the events, the job's object and `wasd top`; after a kill -9 the steps that
are trained again have one set of samples."""
import subprocess, os

from lib import BUILD, Daemon, Events, case, check, equal, finish

NAMES = ("cpu_percent", "disk_free_bytes", "rss_bytes")


def samples(d, job, attempt, count):
    """Waits for so many samples of the attempt; the last one."""
    events = Events(d.port, f"/v1/jobs/{job}/events", last_id=0)
    try:
        for _ in range(count):
            last = events.until(lambda e: e.type == "job.sample" and e.data["attempt"] == attempt, what=f"{count} samples of attempt {attempt}").data
        return last
    finally:
        events.close()


def series(d, job):
    found = d.client.get(f"/v1/jobs/{job}/metrics?names={','.join(NAMES)}&x=time").json["series"]
    return {s["name"]: s for s in found}


with Daemon(args=["--sample-ms", "1"]) as d:
    c = d.client
    d.glyphs(train=400, test=50)
    job = d.submit(dataset="glyphs", model={"arch": "lenet"}, train={"epochs": 100000, "batch": 32}, retry={"max": 0})["id"]

    with case("samples: in an event, the job's object and the series"):
        last = samples(d, job, 1, 3)
        equal(sorted(last["metrics"]), sorted(NAMES))
        check(last["metrics"]["rss_bytes"] > 1 << 20 and last["metrics"]["disk_free_bytes"] > 1 << 20 and last["metrics"]["cpu_percent"] >= 0, last)
        equal(sorted(c.get(f"/v1/jobs/{job}").json["usage"]), sorted(NAMES))
        found = series(d, job)
        equal(sorted(found), sorted(NAMES))
        equal([found[name]["unit"] for name in NAMES], ["%", "bytes", "bytes"])
        check(all(len(s["points"]) >= 3 for s in found.values()), found)
        check(last["metrics"]["cpu_percent"] in [p[3] for p in found["cpu_percent"]["points"]] or len(found["cpu_percent"]["points"]) > 3, (last, found))

    with case("samples: metrics:query and MLflow's history have them"):
        query = c.get(f"/v1/metrics:query?jobs={job}&names=cpu_percent&x=time").json
        check(query["x"] == "time" and len(query["series"][0]["x"]) >= 3, query)
        history = c.get(f"/api/2.0/mlflow/metrics/get-history?run_id={job}&metric_key=disk_free_bytes").json["metrics"]
        check(len(history) >= 3, history)

    with case("samples: wasd top"):
        top = subprocess.run([os.path.join(BUILD, "wasd"), "top", "--once", "--url", f"http://127.0.0.1:{d.port}"], capture_output=True, text=True, check=True).stdout
        heads, row = top.splitlines()[2:4]
        check("CPU %" in heads and "MIB" in heads, top)
        check(row.split()[-1] != "-", top)

    with case("samples: steps that are trained again after a kill -9 have one set"):
        d.kill()
        d.start()
        samples(d, job, 2, 2)
        d.client.post(f"/v1/jobs/{job}:cancel", {"mode": "kill"})
        d.wait_job(job, "cancelled")
        check("usage" not in d.client.get(f"/v1/jobs/{job}").json, "usage of a job that has ended")
        for name in ("cpu_percent", "disk_free_bytes"):
            points = series(d, job)[name]["points"]
            equal(points, sorted(points, key=lambda p: (p[0], p[2])), name)
            equal(points, sorted(points, key=lambda p: p[2]), name)
finish()
