#!/usr/bin/python3
"""GET /metrics: exact numbers after a known number of requests, the rules of the format, and the reference's list."""
import collections, json, os, re, subprocess, threading

from clients import environment
from lib import Client, Daemon, Skip, case, check, equal, finish

PARSE = """
import json, sys
from prometheus_client.parser import text_string_to_metric_families as families
print(json.dumps([[f.name, f.type, f.documentation, [[s.name, s.labels, s.value] for s in f.samples]] for f in families(sys.stdin.read())]))
"""


def scrape(d):
    reply = d.client.get("/metrics")
    equal(reply.headers["Content-Type"], "text/plain; version=0.0.4")
    return reply.body.decode()


def samples(text):
    """{sample without labels: {its labels, sorted: value}}"""
    found = collections.defaultdict(dict)
    for name, labels, value in re.findall(r"^([a-z]\w*)(?:\{(.*)\})? (\S+)$", text, re.M):
        key = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)))
        check(key not in found[name], f"{name}{{{labels}}} stands twice")
        found[name][key] = float(value)
    return found


def value(found, name, **labels):
    return found[name].get(tuple(sorted(labels.items())), 0)


def rules(text):
    """What promtool checks: each metric has one HELP and one TYPE before its samples, which stand together; buckets are cumulative."""
    kinds, seen, last = {}, [], None
    for line in text.splitlines():
        if m := re.fullmatch(r"# HELP (\w+) \S.*", line):
            check(m[1] not in seen, f"{m[1]} begins twice")
            seen.append(last := m[1])
        elif m := re.fullmatch(r"# TYPE (\w+) (counter|gauge|histogram)", line):
            equal(m[1], last, "TYPE")
            check(m[1] not in kinds, f"{m[1]} has two types")
            kinds[m[1]] = m[2]
        else:
            m = re.fullmatch(r"(\w+?)(_bucket|_sum|_count)?(\{.*\})? (\S+)", line)
            check(m, line)
            name = m[1] if kinds.get(m[1]) == "histogram" else m[1] + (m[2] or "")
            equal(name, last, line)
            float(m[4])
    equal(sorted(kinds), sorted(seen))
    found = samples(text)
    for name in (n for n, kind in kinds.items() if kind == "histogram"):
        series = collections.defaultdict(list)
        for key, v in found[name + "_bucket"].items():
            series[tuple(k for k in key if k[0] != "le")].append((float(dict(key)["le"]), v))
        for key, buckets in series.items():
            edges, counts = zip(*buckets)
            check(list(edges) == sorted(edges) and edges[-1] == float("inf"), f"{name}: {edges}")
            check(list(counts) == sorted(counts), f"{name}: {counts}")
            equal(counts[-1], found[name + "_count"][key], name)
            check(key in found[name + "_sum"], name)
        equal(set(series), set(found[name + "_count"]))
    return kinds


with Daemon(args=["--metrics-triton-aliases"]) as d:
    d.glyphs(train=300, test=50)
    job = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 3, "batch": 32}, data={"val_fraction": 0.1})["id"])
    d.deploy("reader", job["id"])
    shape = d.client.get("/v2/models/reader").json["inputs"][0]["shape"][1:]
    macs = d.client.get("/v1/deployments/reader/mode").json["bundles"]
    before = samples(scrape(d))

    def infer(n, want=200, **more):
        size = shape[0] * shape[1] * shape[2]
        body = {"inputs": [{"name": "input", "shape": [n, *shape], "datatype": "FP32", "data": [0.5] * (n * size)}], **more}
        return d.client.post("/v2/models/reader/infer", body, want=want)

    with case("metrics: exact numbers after a known number of requests"):
        for n in (1, 1, 1, 5):
            infer(n)
        for _ in range(2):
            infer(3, parameters={"was_mode": "dom"})
        d.client.post("/v2/models/reader/infer", {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}, want=400)
        d.client.post("/v2/models/none/infer", {"inputs": []}, want=404)
        d.client.put("/v1/deployments/reader/mode", {"mode": "dom"})
        d.client.put("/v1/deployments/reader/mode", {"mode": "dom"})
        d.client.put("/v1/deployments/reader/mode", {"mode": "aom"})
        for path in ("/ui/none", "/v1/none", "/v1/jobs/%2e%2e"):
            d.client.get(path, want=(400, 404))
        d.client.request("HEAD", "/healthz", want=200)
        now = samples(text := scrape(d))

        def more(name, **labels):
            return value(now, name, **labels) - value(before, name, **labels)

        for mode, requests, images in (("aom", 4, 8), ("dom", 2, 6)):
            of = {"deployment": "reader", "mode": mode}
            equal(more("wasd_infer_requests_total", outcome="ok", **of), requests)
            for name in ("duration_seconds", "queue_seconds", "compute_seconds", "batch_size"):
                equal(more(f"wasd_infer_{name}_count", **of), requests, name)
            equal(more("wasd_infer_batch_size_sum", **of), images)
            equal(more("wasd_infer_macs_total", **of), images * macs[mode]["macs"])
            check(more("wasd_infer_duration_seconds_sum", **of) >= more("wasd_infer_compute_seconds_sum", **of) > 0, "times")
            equal(more("wasd_mode_switches_total", **of), 1)
        equal(more("wasd_infer_requests_total", outcome="invalid", deployment="reader", mode="aom"), 1)
        equal(more("wasd_infer_batch_size_bucket", deployment="reader", mode="aom", le="1"), 3)
        equal({k for k in now["wasd_infer_requests_total"] if ("deployment", "reader") not in k}, set())
        route = {"route": "/v2/models/{m}/infer", "method": "POST"}
        for code, n in (("200", 6), ("400", 1), ("404", 1)):
            equal(more("wasd_http_request_duration_seconds_count", code=code, **route), n)
        equal(more("wasd_http_request_duration_seconds_count", code="200", route="/healthz", method="HEAD"), 1)
        equal(more("wasd_http_request_duration_seconds_count", code="404", route="other", method="GET"), 2)
        equal(more("wasd_http_request_duration_seconds_count", code="400", route="other", method="GET"), 1)
        equal(now["wasd_mode_info"], {(("deployment", "reader"), ("mode", "aom")): 1})
        equal(now["wasd_infer_queue_depth"], {(("deployment", "reader"),): 0})

    with case("metrics: jobs, storage and the process"):
        equal(value(now, "wasd_jobs", state="completed"), 1)
        equal(value(now, "wasd_job_epoch_seconds_count"), 3)
        equal(value(now, "wasd_train_images_total"), 3 * 270)
        epochs = d.series(job["id"], "epoch_s")["epoch_s"].values()
        check(abs(value(now, "wasd_job_epoch_seconds_sum") - sum(epochs)) < 1e-6, "seconds of the epochs")
        check(value(now, "wasd_sqlite_commit_seconds_count") > 10 and value(now, "wasd_checkpoint_bytes") > 1000, "commits")
        check(value(now, "wasd_disk_free_bytes") > 1 << 20, "disk")
        # Connections and files open and close between the two looks.
        check(abs(value(now, "process_open_fds") - d.descriptors()) <= 4, f"{value(now, 'process_open_fds')} descriptors, {d.descriptors()} in /proc")
        with open(f"/proc/{d.pid}/statm") as f:
            virtual, resident, *_ = (int(v) * os.sysconf("SC_PAGESIZE") for v in f.read().split())
        check(0.5 < value(now, "process_resident_memory_bytes") / resident < 2, "resident memory")
        check(0.5 < value(now, "process_virtual_memory_bytes") / virtual < 2, "virtual memory")
        check(0 < value(now, "process_cpu_seconds_total") < 600, "processor time")
        started = d.client.get("/v1/system").json["started_at"]
        began = subprocess.run(["date", "-d", started, "+%s"], capture_output=True, text=True, check=True).stdout
        check(abs(value(now, "process_start_time_seconds") - int(began)) < 60, f"started at {value(now, 'process_start_time_seconds')}, {began}")

    with case("metrics: Triton's names tell the same"):
        of = {"model": "reader", "version": "1"}
        for name, want in (("request_success", 6), ("count", 14), ("exec_count", 6), ("pending_request_count", 0)):
            equal(value(now, f"nv_inference_{name}", **of), want, name)
        equal({dict(k)["reason"]: v for k, v in now["nv_inference_request_failure"].items()}, {"REJECTED": 0, "CANCELED": 0, "BACKEND": 0, "OTHER": 1})
        stats = d.client.get("/v2/models/reader/stats").json["model_stats"][0]["inference_stats"]
        for name, stat in (("request", "success"), ("queue", "queue"), ("compute_input", "compute_input"), ("compute_infer", "compute_infer"), ("compute_output", "compute_output")):
            equal(value(now, f"nv_inference_{name}_duration_us", **of), stats[stat]["ns"] / 1000, name)

    with case("metrics: the rules of the format; nothing of a client's making is a label"):
        kinds = rules(text)
        for part in (job["id"], "ckpt_", "req_", "none", "%2e"):
            check(part not in text, f"{part} in /metrics")

    with case("metrics: prometheus_client reads the same numbers"):
        python, why = environment()
        if not python:
            raise Skip(why)
        done = subprocess.run([python, "-c", PARSE], input=text, capture_output=True, text=True)
        equal(done.returncode, 0, done.stderr)
        read = json.loads(done.stdout)
        equal(sum(len(family[3]) for family in read), sum(len(v) for v in now.values()), "samples")
        for name, kind, documentation, family in read:
            equal(kinds.get(name) or kinds[name + "_total"], kind, name)
            check(documentation, name)
            for sample, labels, v in family:
                sample = sample if sample in now else sample.removesuffix("_total")      # the parser's name for a counter
                equal(now[sample][tuple(sorted(labels.items()))], v, sample)

    with case("metrics: the reference lists what is there"):
        page = d.client.get("/docs/operations").body.decode()
        listed = dict(re.findall(r"<td><code>((?:wasd|process|nv)_\w+)</code></td>\s*<td>(\w+)</td>", page))
        equal(listed, kinds)
        labels = {name: set(re.findall(r"<code>(\w+)</code>", cell)) for name, cell in re.findall(r"<td><code>((?:wasd|process|nv)_\w+)</code></td>\s*<td>\w+</td>\s*<td>(.*?)</td>", page)}
        for name in listed:
            for key in now.get(name, now[name + "_count"]):
                equal({k for k, _ in key}, labels[name], name)

    with case("metrics: scrapes beside requests lose nothing"):
        begun = samples(scrape(d))

        def ask():
            c = Client(d.port)
            for _ in range(50):
                c.get("/healthz", want=200)
            c.connection.close()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for t in threads:
            t.start()
        for _ in range(10):
            rules(scrape(d))
        for t in threads:
            t.join()
        of = {"route": "/healthz", "method": "GET", "code": "200"}
        equal(value(samples(scrape(d)), "wasd_http_request_duration_seconds_count", **of) - value(begun, "wasd_http_request_duration_seconds_count", **of), 200)

    with case("metrics: a deleted deployment takes its series along"):
        d.client.delete("/v1/deployments/reader", want=(202, 204))
        while d.client.get("/v1/deployments/reader?wait=30s", want=(200, 404)).status == 200:
            pass
        check("reader" not in scrape(d), "the deleted deployment")

with Daemon() as d:
    with case("metrics: Triton's names only where they are wanted"):
        check("nv_" not in scrape(d), "nv_ without the setting")
        kinds = rules(scrape(d))
        check({"wasd_build_info", "wasd_jobs", "process_open_fds"} <= set(kinds), "the others")

finish()
