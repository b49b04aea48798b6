#!/usr/bin/python3
"""Inference requests wait in the daemon: nothing else waits behind them, those of clients that have gone are never computed, and those
of one deployment are computed together where it says so. The inference process is stopped (SIGSTOP) to make them wait."""
import contextlib, json, math, os, signal, socket, struct, subprocess, threading, time

from lib import BUILD, PATIENCE, Client, Daemon, case, check, equal, finish

IMAGES = 3 * 32 * 32


def serving(c):
    return c.get("/v1/system").json["serving"]


@contextlib.contextmanager
def stopped(d):
    """The inference process does nothing meanwhile. It has answered everything before, also what nobody waits for any more."""
    until("the process is idle", lambda: serving(d.client)["calls"] == 0)
    pid = d.engines("infer")[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def body(value, n=1):
    return json.dumps({"inputs": [{"name": "input", "shape": [n, 3, 32, 32], "datatype": "FP32", "data": [value] * (IMAGES * n)}],
                       "outputs": [{"name": "logits"}]}).encode()


def at_once(port, requests):
    """Threads that send each (path, body); the list fills with the answers."""
    answers = [None] * len(requests)

    def ask(i, path, text):
        c = Client(port)
        answers[i] = c.request("POST", path, text, {"Inference-Header-Content-Length": str(text.rindex(b"}") + 1)})
        c.close()

    threads = [threading.Thread(target=ask, args=(i, *r)) for i, r in enumerate(requests)]
    for t in threads:
        t.start()
    return threads, answers


def unanswered(c):
    """Requests in the daemon without an answer. Not "waiting" plus "calls": a call may be a batch of several requests."""
    return serving(c)["requests"]


@contextlib.contextmanager
def occupied(d, path):
    """The inference process has all it takes at a time: what is asked meanwhile is put into batches only afterwards."""
    with stopped(d):
        threads, _ = at_once(d.port, [(path, body(0))] * 2)
        until("both are in the process", lambda: serving(d.client)["calls"] == 2)
        yield
    for t in threads:
        t.join()


def until(what, condition):
    end = time.monotonic() + 60 * PATIENCE
    while not condition():
        check(time.monotonic() < end, f"{what}: not after {60 * PATIENCE} s")


def abandoned(port, path, text):
    """A request whose client closes before there is an answer."""
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
    return s


with Daemon() as d:
    c = d.client
    d.glyphs(train=200, test=50)
    job = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 1, "batch": 32})["id"])["id"]
    d.deploy("alone", job)
    c.post("/v1/deployments", {"name": "together", "source": {"job": job}, "batching": {"max_batch": 8}}, want=(201, 202))
    equal(d.wait_deployment("together")["batching"], {"max_batch": 8, "max_queue_delay_us": 0})
    path = {name: f"/v2/models/{name}/infer" for name in ("alone", "together")}
    alone = {v: c.post(path["alone"], body(v)).json["outputs"][0]["data"] for v in (0, 0.5, 1)}

    def stats(name):
        return c.get(f"/v2/models/{name}/stats").json["model_stats"][0]

    with case("100 inferences in flight hold nothing else up"):
        with stopped(d):
            threads, answers = at_once(d.port, [(path["alone"], body(0.5))] * 100)
            until("100 wait", lambda: unanswered(c) >= 100)
            for route in ("/v2/health/live", "/v2/health/ready", "/v1/jobs", "/metrics", "/v1/deployments/alone"):
                c.get(route)
            check(unanswered(c) >= 100, "none of them waited for an answer of the process")
        for t in threads:
            t.join()
        check(all(a.status == 200 and a.json["outputs"][0]["data"] == alone[0.5] for a in answers), "every answer is right")
        equal({a.json["parameters"]["was_batch"] for a in answers}, {1})

    with case("what clients asked that have gone is not computed"):
        before = stats("alone")
        with stopped(d):
            gone = [abandoned(d.port, path["alone"], body(1)) for _ in range(40)]
            until("40 wait", lambda: unanswered(c) >= 40)
            for s in gone:
                s.close()
            until("all are dropped", lambda: unanswered(c) == 0)
        equal(c.post(path["alone"], body(0)).json["outputs"][0]["data"], alone[0])
        after = stats("alone")
        check(after["execution_count"] - before["execution_count"] <= 3, f"{before} then {after}")
        equal(after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"], 40)

    with case("a deadline ends what waits"):
        with stopped(d):
            threads, answers = at_once(d.port, [(path["alone"], body(0.5).replace(b"{\"inputs\"", b"{\"parameters\": {\"timeout\": 300000}, \"inputs\""))] * 5)
            for t in threads:
                t.join()
        equal({a.status for a in answers}, {504})
        equal({a.json["code"] for a in answers}, {"deadline"})

    with case("requests are computed together where the deployment says so"):
        before = stats("together")
        with occupied(d, path["alone"]):
            threads, answers = at_once(d.port, [(path["together"], body(v)) for v in (0, 0.5, 1) * 6])
            until("18 wait", lambda: unanswered(c) >= 20)
        for t in threads:
            t.join()
        for i, a in enumerate(answers):
            want = alone[(0, 0.5, 1)[i % 3]]
            check(a.status == 200 and all(abs(x - y) < 1e-3 * max(1, abs(y)) for x, y in zip(a.json["outputs"][0]["data"], want)), f"answer {i}: {a}")
        sizes = {b["batch_size"]: b["compute_infer"]["count"] for b in stats("together")["batch_stats"]}
        equal((sizes[8], sizes[2]), (2, 1), "8 and 8 and 2")
        equal(stats("together")["execution_count"] - before["execution_count"], 3)
        batching = c.get("/v2/models/together/config").json["dynamic_batching"]
        policy = batching.pop("default_queue_policy")
        equal(batching, {"preferred_batch_size": [8], "max_queue_delay_microseconds": 0, "preserve_ordering": False, "priority_levels": 4, "default_priority_level": 2})
        equal((policy["default_timeout_microseconds"], policy["max_queue_size"]), (30000000, 0))

    with case("one bad tensor of a batch harms nobody else"):
        nan = struct.pack("<f", math.nan)
        head = {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "parameters": {"binary_data_size": 4 * IMAGES}}]}
        wrong = json.dumps(head).encode() + nan * IMAGES
        with occupied(d, path["alone"]):
            threads, answers = at_once(d.port, [(path["together"], body(0.5)), (path["together"], wrong), (path["together"], body(1))] * 2)
            until("6 wait", lambda: unanswered(c) >= 8)
        for t in threads:
            t.join()
        equal([a.status for a in answers], [200, 400, 200] * 2)
        check("nan" in answers[1].json["error"], answers[1])
        equal([answers[i].json["outputs"][0]["data"] for i in (0, 3)], [alone[0.5]] * 2, "asked again alone, it has the answer of one alone")

    with case("wasd bench serve reports what it measured, in a closed and in an open loop"):
        url = f"127.0.0.1:{d.port}"
        run = lambda *more: subprocess.run([f"{BUILD}/wasd", "bench", "serve", "--url", url, "--model", "together", "--seconds", "0.5", "--warmup", "0", *more],
                                           capture_output=True, text=True, timeout=60 * PATIENCE)
        before = stats("together")["inference_stats"]["success"]["count"]
        r = json.loads(run("--json", "--clients", "4").stdout)
        equal(stats("together")["inference_stats"]["success"]["count"] - before, r["requests"], "answers counted on both sides")
        equal((sum(r["batches"].values()), sum(n for _, n in r["histogram"]), r["errors"]), (r["requests"], r["requests"], {}))
        steps = [r["latency_us"][p] for p in ("p50", "p90", "p99", "p99_9", "max")]
        check(0 < steps[0] and steps == sorted(steps), steps)
        r = json.loads(run("--json", "--rate", "40", "--fixed", "--form", "png", "--batch", "2").stdout)
        equal((r["requests"], set(r["batches"])), (20, {"2"}), "in the schedule are 20")
        told = run("--form", "json", "--mode", "dom").stdout
        check("errors    none" in told and "p99.9" in told and "#" in told, told)
        refused = run("--mode", "dom:none", "--json", "--clients", "1")
        equal((refused.returncode, list(json.loads(refused.stdout)["errors"])), (1, ["400"]))
        equal(run("--rate", "x").returncode, 2)
        check("no deployment other" in run("--model", "other").stderr, "it names what is missing")

    with case("a deployment of a deleted one's name begins its statistics at zero"):
        check(stats("together")["execution_count"] > 0, "it has answered")
        c.delete("/v1/deployments/together")
        c.post("/v1/deployments", {"name": "together", "source": {"job": job}}, want=(201, 202))
        d.wait_deployment("together")
        equal((stats("together")["execution_count"], stats("together")["inference_stats"]["fail"]["count"]), (0, 0))

    with case("the process dies while many wait: each is told, and the next are answered"):
        with stopped(d):
            threads, answers = at_once(d.port, [(path["alone"], body(0.5))] * 20)
            until("20 wait", lambda: unanswered(c) >= 20)
            os.kill(d.engines("infer")[0], signal.SIGKILL)
            for t in threads:
                t.join()
        equal({a.status for a in answers}, {503})
        d.wait_deployment("alone")
        until("it answers again", lambda: c.request("POST", path["alone"], body(0)).status == 200)

    with case("no inference holds up the end of the daemon"):
        until("the process is idle", lambda: serving(c)["calls"] == 0)
        pid = d.engines("infer")[0]
        os.kill(pid, signal.SIGSTOP)
        threads, answers = at_once(d.port, [(path["alone"], body(0.5))] * 5)
        until("5 wait", lambda: unanswered(c) >= 5)

for t in threads:
    t.join()
finish()
