#!/usr/bin/python3
"""What serving costs over the bare computation, and how latencies behave under load, on this machine.

    tests/bench/serving.py throughput [--networks resnet18,mobilenetv2,lenet] [--rounds 3]   served images/s beside `wasd bench infer`
    tests/bench/serving.py json                                                              the daemon's processor time per image of JSON tensors
    tests/bench/serving.py latency [--networks resnet18]                                     p99 at half of saturation
    tests/bench/serving.py training                                                          p99 beside a training job
    tests/bench/serving.py health                                                            /v2/health/live beside 100 inferences in flight

Each starts a daemon (--state keeps its directory, with the trained networks and the measured choice of algorithms), loads it over the
loopback with `wasd bench serve` and prints medians of interleaved rounds. Absolute numbers depend on what else the machine does; ratios of
numbers from one round much less. `chrt -f 5` before the command keeps other work out, but distorts `training`, whose job then has the same
priority."""
import argparse, json, os, statistics, subprocess, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import BUILD, Client, Daemon

DELAY_US = 2000
TICK = os.sysconf("SC_CLK_TCK")


def say(text):
    print(text, file=sys.stderr, flush=True)


def serve(d, model, *options, seconds=3):
    """One run of `wasd bench serve`; fails if a request failed."""
    p = subprocess.run([f"{BUILD}/wasd", "bench", "serve", "--url", f"127.0.0.1:{d.port}", "--model", model, "--json", "--seconds", str(seconds),
                        "--warmup", "0.5", *map(str, options)], capture_output=True, text=True, timeout=600)
    if p.returncode:
        sys.exit(f"bench serve {model}: {p.stdout} {p.stderr}")
    return json.loads(p.stdout)


def infer(d, arch, batch, seconds=1.5):
    """Images per second of the engine alone, with the daemon's choice of algorithms."""
    env = {**os.environ, "WASD_TUNING": os.path.join(d.data, "tuning.tsv")}
    run = lambda steps: json.loads(subprocess.run([f"{BUILD}/wasd-engine", "bench", "infer", "--arch", arch, "--batch", str(batch), "--steps", str(steps),
                                                   "--json"], capture_output=True, text=True, check=True, env=env).stdout)["images_per_s"]
    return run(max(5, int(run(5) / batch * seconds)))


def deploy(d, arch):
    if d.client.get(f"/v1/deployments/{arch}", want=(200, 404)).status == 404:
        if d.client.get("/v1/datasets/glyphs", want=(200, 404)).status == 404:
            d.glyphs(train=64, test=32)
        say(f"training {arch}")
        job = d.wait_job(d.submit(dataset="glyphs", model={"arch": arch}, train={"epochs": 1, "batch": 32})["id"], timeout=1200)["id"]
        d.client.post("/v1/deployments", {"name": arch, "source": {"job": job}, "batching": {"max_batch": 16, "max_queue_delay_us": DELAY_US}},
                      want=(201, 202))
    d.wait_deployment(arch, timeout=1200)


def middle(values):
    return statistics.median(values)


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def size_of(r):
    """Images per batch: the mean over the answers."""
    return sum(int(size) * n for size, n in r["batches"].items()) / sum(r["batches"].values())


def throughput(d, a):
    print("| network | batch reached | served, images/s | bench infer, images/s | ratio |\n| --- | ---: | ---: | ---: | ---: |")
    for arch in a.networks:
        deploy(d, arch)
        rows = []
        for _ in range(a.rounds):
            r = serve(d, arch, "--clients", 16)
            batch = round(size_of(r))
            rows.append((size_of(r), r["images_per_s"], infer(d, arch, batch)))
        print(f"| {arch} | {middle(b for b, _, _ in rows):.1f} | {middle(s for _, s, _ in rows):.0f} | {middle(i for _, _, i in rows):.0f} | "
              f"{middle(s / i for _, s, i in rows):.2f} |", flush=True)


def json_cost(d, a):
    deploy(d, "lenet")
    rows = []
    for form in ("json", "binary") * a.rounds:
        before = cpu_s(d.pid)
        r = serve(d, "lenet", "--form", form, "--warmup", 0)
        rows.append((form, (cpu_s(d.pid) - before) / r["requests"] * 1e3))
    print("| form | processor time of the daemon per image, ms |\n| --- | ---: |")
    for form in ("json", "binary"):
        print(f"| {form} | {middle(ms for f, ms in rows if f == form):.3f} |")


def latency(d, a):
    print("| network | one client, p50 ms | saturation, requests/s | 2 × p50 + delay, ms | p99 at half of it, equal gaps, ms | random gaps (Poisson), ms |\n"
          "| --- | ---: | ---: | ---: | ---: | ---: |")
    for arch in a.networks:
        deploy(d, arch)
        d.client.request("PATCH", f"/v1/deployments/{arch}", json.dumps({"batching": {"max_batch": 16, "max_queue_delay_us": 0}}))
        rows = []
        for _ in range(a.rounds):
            one = serve(d, arch, "--clients", 1)["latency_us"]["p50"] / 1e3
            most = serve(d, arch, "--clients", 16)["requests_per_s"]
            gaps = [serve(d, arch, "--rate", most / 2, *fixed, seconds=5)["latency_us"]["p99"] / 1e3 for fixed in (["--fixed"], [])]
            rows.append((one, most, *gaps))
        one, most, fixed, random = (middle(r[i] for r in rows) for i in range(4))
        print(f"| {arch} | {one:.2f} | {most:.0f} | {2 * one:.2f} | {fixed:.2f} | {random:.2f} |", flush=True)
        d.client.request("PATCH", f"/v1/deployments/{arch}", json.dumps({"batching": {"max_batch": 16, "max_queue_delay_us": DELAY_US}}))


def training(d, a):
    deploy(d, "resnet18")
    rate = serve(d, "resnet18", "--clients", 1)["requests_per_s"] / 4
    rows = []
    for _ in range(a.rounds):
        idle = serve(d, "resnet18", "--rate", rate, seconds=5)["latency_us"]["p99"] / 1e3
        job = d.submit(dataset="glyphs", model={"arch": "resnet18"}, train={"epochs": 1000, "batch": 32})["id"]
        while d.client.get(f"/v1/jobs/{job}").json["state"] != "running":
            time.sleep(0.1)
        time.sleep(3)
        rows.append((idle, serve(d, "resnet18", "--rate", rate, seconds=5)["latency_us"]["p99"] / 1e3))
        d.client.post(f"/v1/jobs/{job}:cancel", {"mode": "kill"})
        d.wait_job(job, want="cancelled")
    print(f"| | p99 at {rate:.1f} requests/s, ms |\n| --- | ---: |\n| idle | {middle(i for i, _ in rows):.1f} |\n"
          f"| beside a training job | {middle(t for _, t in rows):.1f} |\n| ratio | {middle(t / i for i, t in rows):.2f} |")


def health(d, a):
    deploy(d, "resnet18")
    p99 = []
    for _ in range(a.rounds):
        times = []
        load = threading.Thread(target=serve, args=(d, "resnet18", "--clients", 100), kwargs={"seconds": 4})
        load.start()
        time.sleep(1)
        c = Client(d.port)
        while load.is_alive() and len(times) < 300:
            t = time.monotonic()
            c.get("/v2/health/live")
            times.append((time.monotonic() - t) * 1e3)
            time.sleep(0.005)
        load.join()
        p99.append(sorted(times)[int(len(times) * 0.99)])
    print(f"p99 of /v2/health/live beside 100 inferences in flight: {middle(p99):.1f} ms")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["throughput", "json", "latency", "training", "health"])
    p.add_argument("--networks", type=lambda s: s.split(","), default=["resnet18", "mobilenetv2", "lenet"])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--state", help="directory of the daemon's data; created if missing")
    a = p.parse_args()
    with Daemon(data=a.state and os.path.abspath(a.state)) as d:
        {"throughput": throughput, "json": json_cost, "latency": latency, "training": training, "health": health}[a.what](d, a)


main()
