#!/usr/bin/python3
"""How fast a daemon with many jobs answers: lists, jobs, curves, metrics of several jobs, MLflow's search; and submits while a job trains.

  tests/bench/many_jobs.py --state DIR [--jobs 1000] [--points 10000] [--repeat 50] [--submits 300]

The rows are copies of a real job's, written to the stopped daemon's database; DIR is kept, and made only once. Prints a table in Markdown: median
and p99 of each request in milliseconds, over HTTP with one connection, and the daemon's processor time of one request."""
import argparse, os, sqlite3, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import BUILD, Daemon

CURVES, CURVE = ("train_loss_step", "lr_step", "images_per_s_step"), 999
SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all"}, "name": "real", "train": {"epochs": 2, "batch": 32}}


def copied(db, table, source, **replaced):
    """Copies the rows of the source job; a replaced column gets an SQL expression."""
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    names = ",".join(f'"{c}"' for c in columns)
    values = ",".join(replaced.get(c, f'"{c}"') for c in columns)
    db.execute(f"INSERT INTO {table}({names}) SELECT {values} FROM {table} WHERE {'id' if table == 'jobs' else 'job'}=?", (source,))


def fill(path, source, jobs, points):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous=OFF")
    metrics = db.execute("SELECT count(DISTINCT name) FROM metrics WHERE job=?", (source,)).fetchone()[0]
    epochs = (points - len(CURVES) * CURVE) // metrics
    count = "WITH RECURSIVE e(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM e WHERE n<?)"
    for i in range(jobs):
        id = f"job_01A{i:023d}"
        if i % 50 == 0:
            db.execute("BEGIN")
        copied(db, "jobs", source, id=f"'{id}'", name=f"'run-{i}'")
        copied(db, "attempts", source, job=f"'{id}'")
        copied(db, "transitions", source, job=f"'{id}'", seq="NULL")
        copied(db, "checkpoints", source, job=f"'{id}'", id=f"'ckpt_01A{i:021d}'||substr(id,-2)")
        db.execute(f"INSERT INTO metrics(job,name,epoch,step,attempt,ts,value) {count} SELECT ?,m.name,n,n*100,1,1700000000000+n*1000,abs(random()%10000)/10000.0"
                   " FROM (SELECT DISTINCT name FROM metrics WHERE job=?) m, e", (epochs, id, source))
        for curve in CURVES:
            db.execute(f"INSERT INTO step_metrics(job,name,step,epoch,ts,value) {count} SELECT ?,?,n,1+n/100,1700000000000+n*10,abs(random()%10000)/10000.0 FROM e",
                       (CURVE, id, curve))
        if i % 50 == 49 or i == jobs - 1:
            db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return metrics * epochs + len(CURVES) * CURVE


def prepared(state, jobs, points):
    """Makes the state if it is not there yet."""
    if os.path.exists(os.path.join(state, "filled")):
        return
    with Daemon(state) as d:
        d.glyphs(train=400, test=50)
        source = d.wait_job(d.submit(**SPEC)["id"])["id"]
    begun = time.monotonic()
    each = fill(os.path.join(state, "wasd.db"), source, jobs, points)
    print(f"{jobs} jobs with {each} points each written in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    with open(os.path.join(state, "filled"), "w") as f:
        f.write(f"{jobs} {each}\n")


def processor_ms(d):
    with open(f"/proc/{d.pid}/stat") as f:
        user, system = f.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK")


def timed(d, work, repeat):
    """Median, p99 and processor time."""
    times = []
    for i in range(2):                           # these warm the caches
        work(i)
    before = processor_ms(d)
    for i in range(repeat):
        begun = time.perf_counter()
        work(i)
        times.append(1000 * (time.perf_counter() - begun))
    times.sort()
    return times[repeat // 2], times[int(0.99 * (repeat - 1))], (processor_ms(d) - before) / repeat


def requests(d, jobs):
    c = d.client
    ids = [f"job_01A{i:023d}" for i in range(jobs)]
    hundred, newest = ",".join(ids[-100:]), ids[-1]
    second = c.get("/v1/jobs?limit=50").json["next_cursor"]

    def get(path):
        return lambda i: c.get(path.replace("{id}", ids[i * 37 % jobs]))

    yield "list of jobs, a page of 50", get(f"/v1/jobs?limit=50&cursor={second}")
    yield "list of 500 jobs", get("/v1/jobs?limit=500")
    yield "list by state and part of the name", get("/v1/jobs?state=completed&q=run-99")
    yield "one job", get("/v1/jobs/{id}")
    yield "all curves of a job", get("/v1/jobs/{id}/metrics")
    yield "all curves, 200 points each", get("/v1/jobs/{id}/metrics?max_points=200")
    yield "two curves", get("/v1/jobs/{id}/metrics?names=val_acc_aom,val_acc_dom")
    yield "metrics:query, ten jobs, all metrics", get(f"/v1/metrics:query?jobs={','.join(ids[-10:])}")
    yield "metrics:query, two jobs, all metrics", get(f"/v1/metrics:query?jobs={ids[0]},{newest}")
    yield "metrics:query, 100 jobs, one metric", get(f"/v1/metrics:query?jobs={hundred}&names=val_acc_aom")
    yield "metrics:query, 100 jobs, loss by step", get(f"/v1/metrics:query?jobs={hundred}&names=train_loss_step&x=step")
    yield "MLflow: 100 runs, newest first", lambda i: c.post("/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"], "max_results": 100})
    yield "MLflow: the best of all runs", lambda i: c.post("/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"], "max_results": 10, "order_by": ["metrics.val_acc_aom DESC"]})
    yield "MLflow: one history", get("/api/2.0/mlflow/metrics/get-history?run_id={id}&metric_key=val_acc_aom")
    yield "`wasd compare` of three jobs", lambda i: subprocess.run([os.path.join(BUILD, "wasd"), "compare", *ids[:3], "--url", f"http://127.0.0.1:{d.port}"], check=True, stdout=subprocess.DEVNULL)


def submits(d, count):
    """Times of submissions while a job trains; the submitted jobs are deleted afterwards."""
    training = d.submit(**dict(SPEC, name="trains", train={"epochs": 100000, "batch": 32}))["id"]
    d.client.get(f"/v1/jobs/{training}?wait=30s&until=change")
    sent = []
    result = timed(d, lambda i: sent.append(d.client.post("/v1/jobs", dict(SPEC, name=f"waits-{i}"), want=201).json["id"]), count)
    state = d.client.get(f"/v1/jobs/{training}").json["state"]
    for id in [*sent, training]:
        d.client.post(f"/v1/jobs/{id}:cancel", {"mode": "kill"})
        d.wait_job(id, "cancelled")
        d.client.delete(f"/v1/jobs/{id}")
    return result, state


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--state", required=True, help="directory of the daemon's data; made if missing")
    p.add_argument("--jobs", type=int, default=1000)
    p.add_argument("--points", type=int, default=10000, help="of each job")
    p.add_argument("--repeat", type=int, default=50, help="times that each request is sent")
    p.add_argument("--submits", type=int, default=300)
    a = p.parse_args()
    prepared(a.state, a.jobs, a.points)
    with open(os.path.join(a.state, "filled")) as f:
        jobs, points = map(int, f.read().split())
    with Daemon(a.state) as d:
        print(f"| {jobs} jobs with {points} points each | Median ms | p99 ms | Processor ms |\n| --- | --- | --- | --- |")
        row = "| {} | {:.1f} | {:.1f} | {:.1f} |"
        for name, work in requests(d, jobs):
            print(row.format(name, *timed(d, work, a.repeat)), flush=True)
        result, state = submits(d, a.submits)
        print(row.format("submit while a job trains" + ("" if state == "running" else f" (it was {state})"), *result))
