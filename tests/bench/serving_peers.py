#!/usr/bin/python3
"""Compares wasd as a server with servers that people write around ONNX Runtime: FastAPI with uvicorn, and node.js. All serve the same ResNet-18
for 3x32x32 images (`wasd export --format onnx`), get the same binary requests of one image from the same load generator (`wasd bench serve`, 16
connections that stay open), and share the same two cores with it. In each round every contender runs once, after its neighbours; the table shows
medians over rounds. Before, every server must give the same logits for the same image.

    tests/bench/serving_peers.py [--rounds 5] [--seconds 4] [--pause 0] [--state DIR]

The peers' packages come from PyPI and npm, in pinned versions, into build/peers; a peer that cannot be installed is named with the reason, and the
others are compared. A peer has several rows: one request at a time on all cores, or several at once on one core each."""
import argparse, contextlib, json, os, re, shutil, statistics, struct, subprocess, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import BUILD, Client, Daemon, check, directory, equal

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(BUILD, "peers")
PYTHON = ["fastapi==0.121.3", "uvicorn[standard]==0.38.0", "onnxruntime==1.32.0", "numpy==2.4.6"]
NODE = "onnxruntime-node@1.27.0"
SHAPE = (3, 32, 32)
BATCHING = {"max_batch": 16, "max_queue_delay_us": 1000}


class Absent(Exception):
    """A peer that cannot run here; the text gives the reason."""


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- the peers -----------------------------------------------------------------------------------------------------------------

def install(where, what, *steps):
    """Runs the steps once; a file remembers what they installed."""
    stamp = os.path.join(where, "installed.json")
    with contextlib.suppress(OSError, ValueError), open(stamp) as f:
        if json.load(f) == what:
            return
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)
    for step in steps:
        if not shutil.which(step[0]):
            raise Absent(f"{step[0]} is not there")
        say(" ".join(step))
        try:
            p = subprocess.run(step, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            raise Absent(f"{step[0]} had not ended after 600 s") from None
        if p.returncode:
            raise Absent((p.stdout + p.stderr).strip().splitlines()[-1])
    with open(stamp, "w") as f:
        json.dump(what, f)


class Server:
    """A peer's process; `url` is where it has said that it listens."""

    def __init__(self, command, env):
        self.process = subprocess.Popen(command, cwd=HERE, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = []
        for line in self.process.stdout:
            said.append(line)
            if m := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(m.group(1))
                break
        else:
            raise Absent(f"{command[0]} ended: {''.join(said[-3:])}")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def fastapi(model, intra, pool):
    home = os.path.join(PEERS, "python")
    install(home, PYTHON, [sys.executable, "-m", "venv", home], [os.path.join(home, "bin", "pip"), "install", "-q", "--retries", "1", *PYTHON])
    return Server([os.path.join(home, "bin", "uvicorn"), "fastapi_server:app", "--port", "0", "--no-access-log"],
                  {"MODEL": model, "INTRA": str(intra), "POOL": str(pool)})


def node(model, intra, processes):
    home = os.path.join(PEERS, "node")
    # The package contains its CPU library; its install script would only download those for GPUs.
    install(home, NODE, ["npm", "install", "--prefix", home, "--ignore-scripts", "--no-audit", "--no-fund", NODE])
    return Server(["node", "node_server.js", home, model, str(intra), str(processes), ",".join(map(str, SHAPE))], {})


# ---- ours ------------------------------------------------------------------------------------------------------------------------

def serve(d):
    """A ResNet-18 after one epoch on a few images, deployed with and without batching. Returns its checkpoint."""
    kept = d.client.request("GET", "/v1/deployments/single")
    if kept.status == 200:
        d.wait_deployment("batching")
        return d.wait_deployment("single")["checkpoint"]
    d.glyphs(train=64, test=16)
    job = d.submit(dataset="glyphs", model={"arch": "resnet18"}, was={"transforms": [{"type": "translate", "x": 0.3, "y": 0.3}]},
                   train={"epochs": 1, "batch": 32, "seed": 1})["id"]
    ckpt = d.wait_job(job)["best"]["checkpoint"]
    for name, batching in (("batching", BATCHING), ("single", None)):
        d.client.post("/v1/deployments", {"name": name, "source": {"checkpoint": ckpt}, "batching": batching})
        equal(d.wait_deployment(name)["input"], list(SHAPE))
    return ckpt


# ---- measuring ---------------------------------------------------------------------------------------------------------------------

def logits(port, model):
    """Of a fixed image."""
    size = SHAPE[0] * SHAPE[1] * SHAPE[2]
    tensor = struct.pack(f"<{size}f", *((i * 37 % 256) / 127.5 - 1 for i in range(size)))
    header = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, *SHAPE], "parameters": {"binary_data_size": len(tensor)}}],
                         "outputs": [{"name": "logits", "parameters": {"binary_data": True}}]}).encode()
    reply = Client(port).request("POST", f"/v2/models/{model}/infer", header + tensor,
                                 {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}, want=200)
    return struct.unpack("<10f", reply.body[-40:])


def load(port, model, mode, a, warm=False):
    """One measurement. warm: also a server's first requests, in which it may still plan; they may take longer than the measurement."""
    p = subprocess.run([os.path.join(BUILD, "wasd"), "bench", "serve", "--url", f"http://127.0.0.1:{port}", "--model", model, "--clients", str(a.clients),
                        "--seconds", str(a.seconds), "--warmup", "0.5", "--json", *(["--mode", mode] if mode else [])], capture_output=True, text=True)
    if warm:
        return None
    check(p.returncode == 0, f"bench serve: {p.stdout}{p.stderr}")
    r = json.loads(p.stdout)
    equal(r["errors"], {})
    return r


def table(rows, best):
    lines = ["| ResNet-18, one image per request, 16 clients | images/s | p50 | p99 | spread | wasd AOM to it |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for label, samples in rows:
        rate = statistics.median(s["images_per_s"] for s in samples)
        ms = lambda key: f"{statistics.median(s['latency_us'][key] for s in samples) / 1000:.1f} ms"
        rates = [s["images_per_s"] for s in samples]
        lines.append(f"| {label} | {rate:.0f} | {ms('p50')} | {ms('p99')} | {min(rates):.0f}–{max(rates):.0f} | {best / rate:.2f} |")
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=4, help="length of one measurement")
    p.add_argument("--pause", type=float, default=0, help="seconds between measurements, for other users of the machine")
    p.add_argument("--state", metavar="DIR", help="keep the daemon's data there, so that a later run need not train")
    p.add_argument("--clients", type=int, default=16)
    p.add_argument("--json", action="store_true", help="print every sample as JSON too")
    a = p.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    stop, contenders = [], []                      # (label, port, model, mode)
    with Daemon(data=a.state and os.path.abspath(a.state), args=["--threads", "2", "--infer-threads", "2"]) as d:
        ckpt, model = serve(d), os.path.join(directory(), "model.onnx")
        subprocess.run([os.path.join(BUILD, "wasd"), "export", ckpt, "--format", "onnx", "--output", model, "--url", f"127.0.0.1:{d.port}"], check=True,
                       stdout=subprocess.DEVNULL)
        ours = f"batches of up to {BATCHING['max_batch']}"
        contenders += [(f"wasd, AOM, {ours}", d.port, "batching", "aom"), (f"wasd, DOM, {ours}", d.port, "batching", "dom"),
                       ("wasd, AOM, each request alone", d.port, "single", "aom")]
        want = logits(d.port, "single")
        for name, start in (("FastAPI + ONNX Runtime", fastapi), ("node.js + ONNX Runtime", node)):
            for label, intra, pool in (("one at a time, 2 threads", 2, 1), ("two at a time, 1 thread each", 1, 2)):
                try:
                    s = start(model, intra, pool)
                    stop.append(s)
                    for got, wanted in zip(logits(s.port, "resnet18"), want):
                        check(abs(got - wanted) < 1e-3 * max(1, abs(wanted)), f"{name}: logit {got}, ours {wanted}")
                    contenders.append((f"{name}, {label}", s.port, "resnet18", None))
                except Absent as why:
                    print(f"skip {name}, {label}: {why}")
        samples = {label: [] for label, *_ in contenders}
        try:
            for _, *where in contenders:
                load(*where, a, warm=True)
            for n in range(a.rounds):
                for i in range(len(contenders)):
                    label, *where = contenders[(i + n) % len(contenders)]
                    samples[label].append(load(*where, a))
                    say(f"round {n + 1}, {label}: {samples[label][-1]['images_per_s']:.0f} images/s")
                    time.sleep(a.pause)
        finally:
            for s in stop:
                s.stop()
    if a.json:
        print(json.dumps(samples))
    print(f"load when this ended: {os.getloadavg()[0]:.2f}; {len(cores)} cores; {', '.join(PYTHON)}; {NODE}\n")
    print(table(samples.items(), statistics.median(s["images_per_s"] for s in samples[contenders[0][0]])))


if __name__ == "__main__":
    main()
