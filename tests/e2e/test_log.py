#!/usr/bin/python3
"""The daemon's log: request and trace ids end every line that belongs to a request, also lines about what it has caused."""
import os, re, signal, threading, time

from lib import PATIENCE, Client, Daemon, case, check, equal, finish

TRACE = "4bf92f3577b34da6a3ce929d0e0e47"        # and two digits


def lines(d, last=200000):
    return d.messages(last).splitlines()


def traced(n):
    return {"traceparent": f"00-{TRACE}{n:02d}-00f067aa0ba902b7-01"}


def of(d, n):
    """The lines with trace id n, each checked to end with the ids of one request."""
    found = [line for line in lines(d) if f"trace={TRACE}{n:02d}" in line]
    ids = set()
    for line in found:
        m = re.search(rf" id=(req_[0-9A-Z]{{26}}) trace={TRACE}{n:02d}$", line)
        check(m, f"no ids at the end: {line}")
        ids.add(m[1])
    return found, ids


def await_line(d, n, message, **pairs):
    """Waits for a line with trace id n; it may be written just after the change that a client can see."""
    end = time.monotonic() + 15 * PATIENCE
    while True:
        found, ids = of(d, n)
        if any(f" {message} " in line and all(f"{k}={v}" in line for k, v in pairs.items()) for line in found):
            equal(len(ids), 1, str(found))
            return ids.pop()
        check(time.monotonic() < end, f"no line {message} {pairs}: {found}")
        time.sleep(0.01)


with Daemon(args=["--log-level", "debug"]) as d:
    c = d.client
    with case("log: a request's line has its ids, and a client without traceparent no trace"):
        reply = c.request("GET", "/healthz", headers=traced(1), want=200)
        equal(reply.headers["traceparent"], traced(1)["traceparent"])
        equal(await_line(d, 1, "debug request", method="GET", uri="/healthz", status=200), reply.headers["X-Request-Id"])
        reply = c.get("/healthz", want=200)
        mine = [line for line in lines(d) if reply.headers["X-Request-Id"] in line]
        check(len(mine) == 1 and mine[0].endswith(f" id={reply.headers['X-Request-Id']}"), mine)
        for bad in ("00-0-0-01", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", f"00-{TRACE}99-00f067aa0ba902b7-01 x=1"):
            reply = c.request("GET", "/healthz", headers={"traceparent": bad}, want=200)
            check(next(line for line in lines(d) if reply.headers["X-Request-Id"] in line).endswith(reply.headers["X-Request-Id"]), bad)

    with case("log: an upload, a job and a load that requests have caused"):
        made = c.request("POST", "/v1/datasets?wait=60s", {"name": "glyphs", "synthetic": {"kind": "glyphs", "train": 200, "test": 40, "seed": 1}}, headers=traced(2), want=(200, 201, 202))
        d.wait_dataset("glyphs")
        job = c.request("POST", "/v1/jobs", {"dataset": "glyphs", "model": {"arch": "lenet"}, "train": {"epochs": 1, "batch": 50}}, headers=traced(3), want=201)
        d.wait_job(job.json["id"])
        c.request("POST", "/v1/deployments", {"name": "reader", "source": {"job": job.json["id"], "follow": "best"}}, headers=traced(4), want=(201, 202))
        d.wait_deployment("reader")
        c.request("POST", "/v1/deployments/reader:reload", {}, headers=traced(5))
        d.wait_deployment("reader")
        ids = {}
        for n, message, pairs in ((2, "dataset ready", {"dataset": "glyphs"}), (3, "job started", {"job": job.json["id"]}), (3, "job attempt over", {"job": job.json["id"], "to": "completed"}),
                                  (4, "deployment ready", {"deployment": "reader"})):
            ids[n] = await_line(d, n, message, **pairs)
        equal(ids[3], job.headers["X-Request-Id"])

    with case("log: a cancelled job's last line names the request that has cancelled it"):
        job = c.request("POST", "/v1/jobs", {"dataset": "glyphs", "model": {"arch": "lenet"}, "train": {"epochs": 5000, "batch": 50}}, headers=traced(6), want=201).json["id"]
        while c.get(f"/v1/jobs/{job}?wait=30s&until=change").json["state"] != "running":
            pass
        c.request("POST", f"/v1/jobs/{job}:cancel", {}, headers=traced(7), want=(200, 202))
        d.wait_job(job, "cancelled")
        await_line(d, 6, "job started", job=job)
        await_line(d, 7, "job attempt over", job=job, to="cancelled")

    with case("log: a failed inference says why, with the ids of the request that met the fault"):
        shape = c.get("/v2/models/reader").json["inputs"][0]["shape"][1:]
        body = {"inputs": [{"name": "input", "shape": [1, *shape], "datatype": "FP32", "data": [0.5] * (shape[0] * shape[1] * shape[2])}]}
        process, = d.engines("infer")
        os.kill(process, signal.SIGSTOP)              # the question is in the process when it dies
        replies = []
        asking = threading.Thread(target=lambda: replies.append(Client(d.port).post("/v2/models/reader/infer", body, want=None, headers=traced(8))))
        asking.start()
        while not c.get("/v1/system").json["serving"]["calls"]:
            pass
        os.kill(process, signal.SIGKILL)
        asking.join()
        equal(replies[0].status, 503)
        equal(await_line(d, 8, "warn request failed", status=503, uri="/v2/models/reader/infer", why='"busy: the '), replies[0].headers["X-Request-Id"])

    with case("log: what a client writes cannot forge ids"):
        reply = c.request("GET", f"/v1/x%20id=req_1%0atrace={TRACE}09", want=400)
        mine = [line for line in lines(d) if reply.headers["X-Request-Id"] in line]
        check(mine and all(line.endswith(f" id={reply.headers['X-Request-Id']}") for line in mine), mine)
        check(not any(line.startswith("trace=") for line in lines(d)), "a line break in a URI")
finish()
