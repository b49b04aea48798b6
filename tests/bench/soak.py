#!/usr/bin/python3
"""Endurance of a serving daemon, in two parts.

  many   a million inference requests over connections that stay open. Resident memory, descriptors and threads of the daemon and of its inference
         process are sampled all the while: at the end they must be what they were after the first tenth.
  slow   1,000 idle connections, 100 clients that send their headers a byte a second, and 100 that read a large reply a byte a second, beside 16
         busy clients. The busy ones must all be served, the slow ones cut at their deadline, the idle ones still be there. p99 is compared
         with that of the busy clients alone, measured before and after.

    tests/bench/soak.py [many] [slow] [--requests 1000000] [--clients 16] [--chunk 10] [--pause 0]

Requests are binary tensors of one image for LeNet on synthetic data (`wasd bench serve`). The exit status is 1 if something grew, failed or was cut
that should not have been. All limits are the daemon's defaults; this script needs about 1,500 descriptors of its own."""
import argparse, contextlib, json, os, resource, socket, statistics, subprocess, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import BUILD, Client, Daemon, equal

IDLE, DRIPPING, SIPPING = 1000, 100, 100
HEADER_S, GRACE_S, LEAST_RATE = 10, 10, 1024       # header_timeout_ms, slow_after_ms, slow_bytes_per_s
BATCHING = {"max_batch": 32, "max_queue_delay_us": 200}
faults = []


def say(text):
    print(text, file=sys.stderr, flush=True)


def expect(condition, what):
    if not condition:
        faults.append(what)


def load(d, a, seconds, warmup=0.5):
    p = subprocess.run([os.path.join(BUILD, "wasd"), "bench", "serve", "--url", f"http://127.0.0.1:{d.port}", "--model", "soak", "--clients", str(a.clients),
                        "--seconds", str(seconds), "--warmup", str(warmup), "--json"], capture_output=True, text=True)
    r = json.loads(p.stdout)
    equal(r["errors"], {}, p.stderr)
    return r


# ---- many ------------------------------------------------------------------------------------------------------------------------

WHAT = ("rss_kib", "descriptors", "threads")


def sample(pid):
    with open(f"/proc/{pid}/status") as f:
        status = dict(line.split(":", 1) for line in f)
    return int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


class Sampler:
    """Samples the processes once a second while they are under load."""

    def __init__(self, pids):
        self.pids, self.samples, self.going = pids, {name: [] for name in pids}, threading.Event()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            self.going.wait()
            for name, pid in self.pids.items():
                with contextlib.suppress(OSError):
                    self.samples[name].append(sample(pid))
            time.sleep(1)


def many(d, a):
    pids = {"daemon": d.pid, "inference process": d.engines("infer")[0]}
    sampler, done, rates = Sampler(pids), 0, []
    while done < a.requests:
        sampler.going.set()
        r = load(d, a, a.chunk, 0)
        sampler.going.clear()
        done += r["requests"]
        rates.append((r["requests_per_s"], r["latency_us"]["p99"]))
        memory = ", ".join(f"{name} {rows[-1][0] / 1024:.1f} MiB" for name, rows in sampler.samples.items())
        say(f"{done} requests, {r['requests_per_s']:.0f}/s, p99 {r['latency_us']['p99'] / 1000:.1f} ms; {memory}")
        time.sleep(a.pause)
    equal(d.engines("infer"), [pids["inference process"]], "the inference process was not restarted")
    print(f"\n{done} requests, none failed; {statistics.median(r for r, _ in rates):.0f} requests/s, p99 {statistics.median(p for _, p in rates) / 1000:.1f} ms\n")
    print("| while under load | first tenth | last tenth | highest |\n| --- | ---: | ---: | ---: |")
    for name, rows in sampler.samples.items():
        tenth = max(1, len(rows) // 10)
        for i, what in enumerate(WHAT):
            column = [row[i] for row in rows]
            first, last = statistics.median(column[:tenth]), statistics.median(column[-tenth:])
            text = (lambda v: f"{v / 1024:.1f} MiB") if what == "rss_kib" else (lambda v: f"{v:.0f}")
            print(f"| {name}, {'resident memory' if what == 'rss_kib' else what} | {text(first)} | {text(last)} | {text(max(column))} |")
            expect(last <= first * 1.02 + (1024 if what == "rss_kib" else 1), f"{name}: {what} grew from {first} to {last}")


# ---- slow ------------------------------------------------------------------------------------------------------------------------

def established(port):
    """The ports of the clients whose connections to `port` the daemon has not closed. Only its side of a connection tells: a client that does not read
    learns nothing of the end."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f][1:]
    number = lambda address: int(address.rpartition(":")[2], 16)
    return {number(row[2]) for row in rows if row[3] == "01" and number(row[1]) == port}


class Slow:
    """A client that sends or reads a byte a second, and notes when it was cut."""

    def __init__(self, port, path, drips):
        self.drips, self.cut_s, self.sent = drips, None, 0
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.s.connect(("127.0.0.1", port))
        self.port = self.s.getsockname()[1]
        self.request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Filler: {'x' * 400}\r\n\r\n".encode()
        if not drips:
            self.s.sendall(self.request)
        self.s.setblocking(False)
        self.began = time.monotonic()

    def step(self, open_ports):
        """Once a second. False: the daemon has cut it."""
        if self.port not in open_ports:
            self.cut_s = time.monotonic() - self.began
            self.s.close()
            return False
        with contextlib.suppress(OSError):
            if self.drips:
                self.sent += self.s.send(self.request[self.sent:self.sent + 1])
            else:
                self.s.recv(1)
        return True


def connect(port):
    c = Client(port)
    c.get("/v2/health/live")
    return c


def slow(d, a):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    before = sample(d.pid)
    alone = [load(d, a, a.chunk)]
    idle = [connect(d.port) for _ in range(IDLE)]
    ckpt = d.client.get("/v1/deployments/soak").json["checkpoint"]
    slow = [Slow(d.port, f"/v1/checkpoints/{ckpt}/file?format=wasd", i < DRIPPING) for i in range(DRIPPING + SIPPING)]
    busy = []
    runner = threading.Thread(target=lambda: busy.append(load(d, a, 3 * HEADER_S)))
    runner.start()
    waiting, end = slow, time.monotonic() + 50
    while waiting and time.monotonic() < end:
        began = time.monotonic()
        ports = established(d.port)
        waiting = [s for s in waiting if s.step(ports)]
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))
    runner.join()
    for c in idle:
        fresh = c.connection
        c.get("/v2/health/live")
        expect(c.connection is fresh, "an idle connection was cut before its time")
        c.close()
    alone.append(load(d, a, a.chunk))
    drips, sips = [[s.cut_s for s in slow if s.drips is which and s.cut_s] for which in (True, False)]
    expect(len(drips) == DRIPPING and len(sips) == SIPPING, f"{DRIPPING + SIPPING - len(drips) - len(sips)} slow connections were not cut")
    r, ms = busy[0], lambda r, p: r["latency_us"][p] / 1000
    print(f"\n| {a.clients} busy clients | requests/s | p50 | p99 | failed |\n| --- | ---: | ---: | ---: | ---: |")
    print(f"| alone, before and after | {statistics.mean(x['requests_per_s'] for x in alone):.0f} | {statistics.mean(ms(x, 'p50') for x in alone):.1f} ms "
          f"| {statistics.mean(ms(x, 'p99') for x in alone):.1f} ms | 0 |")
    print(f"| beside {IDLE:,} idle and {len(slow)} slow connections | {r['requests_per_s']:.0f} | {ms(r, 'p50'):.1f} ms | {ms(r, 'p99'):.1f} ms | 0 |\n")
    span = lambda times: f"after {min(times):.1f} to {max(times):.1f} s" if times else "never"
    print(f"{len(drips)} senders of headers were cut {span(drips)} (deadline {HEADER_S} s), {len(sips)} slow readers {span(sips)} (deadline {GRACE_S} s, then "
          f"{LEAST_RATE} bytes/s); all {IDLE:,} idle connections still answered")
    expect(all(HEADER_S - 1.5 < t < HEADER_S + 3 for t in drips), "headers were not cut at their deadline")
    expect(all(GRACE_S - 1.5 < t < GRACE_S + 120 for t in sips), "readers were not cut at their deadline")
    time.sleep(1)
    after = sample(d.pid)
    expect(after[1] <= before[1] + 4, f"descriptors: {before[1]} before, {after[1]} after")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("parts", nargs="*", metavar="many|slow", help="default: both")
    p.add_argument("--requests", type=int, default=1_000_000)
    p.add_argument("--clients", type=int, default=16)
    p.add_argument("--chunk", type=float, default=10, help="seconds of load after which the counts are read")
    p.add_argument("--pause", type=float, default=0, help="seconds between two chunks, for other users of the machine")
    a = p.parse_args()
    with Daemon() as d:
        d.glyphs(train=300, test=50)
        job = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 1, "batch": 50, "seed": 3})["id"])
        d.client.post("/v1/deployments", {"name": "soak", "source": {"job": job["id"], "follow": "best"}, "batching": BATCHING})
        d.wait_deployment("soak")
        load(d, a, 2)
        for part, run in (("many", many), ("slow", slow)):
            if not a.parts or part in a.parts:
                run(d, a)
    for what in faults:
        print(f"FAILED: {what}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
