#!/usr/bin/python3
"""int8 beside float: images/s of our int8, fp32 and bf16, and of the int8 networks of ONNX Runtime and OpenVINO, of the same network.

The network comes from a daemon that trains it for a moment on glyphs and exports it to ONNX; the peers quantise that file by their own tools
(static, per channel). Speed does not depend on the weights (but for filters whose sums could exceed 2^25), so that ours are random. In every round each contender runs once, in its own process;
the table shows medians of the rounds and ratios of those medians. --fifo runs them before all other work of the machine (needs root).

    python3 -m venv V && V/bin/pip install onnxruntime onnx openvino nncf
    tests/bench/int8.py --python V/bin/python [--networks resnet18,mobilenetv2] [--batches 1,8,64] [--rounds 5] [--threads 2] [--fifo]

Without --python only our own modes are compared. Must hold: ResNet-18 2.2 times our best float32, 1.5 times our bf16 and each peer; MobileNetV2 1.3 times
our float32."""
import argparse, json, os, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))
from lib import BUILD, Daemon

ENGINE, PEER = os.path.join(BUILD, "wasd-engine"), os.path.join(HERE, "int8_peer.py")
OURS = {"wasd fp32": ["--mode", "aom", "--precision", "fp32"], "wasd bf16": ["--mode", "aom", "--precision", "bf16"], "wasd int8": ["--mode", "int8"]}
PEERS = {"ONNX Runtime int8": "onnxruntime", "OpenVINO int8": "openvino"}
MUST = {"resnet18": {"wasd fp32": 2.2, "wasd bf16": 1.5, "ONNX Runtime int8": 1.5, "OpenVINO int8": 1.5}, "mobilenetv2": {"wasd fp32": 1.3}}

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--networks", default="resnet18,mobilenetv2")
p.add_argument("--batches", default="1,8,64")
p.add_argument("--rounds", type=int, default=5)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--python", help="a Python with the peers")
p.add_argument("--fifo", action="store_true", help="real-time priority for this process and all that it starts")
o = p.parse_args()
if o.fifo:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))


def call(*command):
    r = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {r.stderr[-600:]}")
    return r.stdout


def export(network, path):
    with Daemon() as d:
        d.glyphs(train=64, test=16)
        job = d.wait_job(d.submit(dataset="glyphs", model={"arch": network}, was=False, train={"epochs": 1, "batch": 32})["id"])["id"]
        ckpt = d.client.get(f"/v1/jobs/{job}/checkpoints").json["items"][0]["id"]
        with open(path, "wb") as f:
            f.write(d.client.get(f"/v1/checkpoints/{ckpt}/file?format=onnx").body)


def steps(batch):
    return {1: 300, 8: 60}.get(batch, 12)


def ms(contender, network, batch, here):
    """Milliseconds of a step."""
    if contender in OURS:
        out = call(ENGINE, "bench", "infer", "--arch", network, "--was", "off", *OURS[contender], "--batch", batch, "--threads", o.threads, "--steps", steps(batch), "--warmup", 5,
                   "--tuning", os.path.join(here, "tuning"), "--json")
        return json.loads(out)["ms_per_step"]["total"]
    peer = PEERS[contender]
    return json.loads(call(o.python, PEER, "run", peer, os.path.join(here, f"{network}.{peer}"), batch, o.threads, steps(batch)).splitlines()[-1])["ms"]


contenders = [*OURS, *(PEERS if o.python else [])]
if o.python:
    print(call(o.python, PEER, "versions").strip())
print(f"{o.threads} threads, medians of {o.rounds} rounds; load {os.getloadavg()[0]:.1f}\n")
missed = 0
with tempfile.TemporaryDirectory() as here:
    for network in o.networks.split(","):
        if o.python:
            export(network, os.path.join(here, f"{network}.onnx"))
            for peer in PEERS.values():
                call(o.python, PEER, "quantise", peer, os.path.join(here, f"{network}.onnx"), os.path.join(here, f"{network}.{peer}"))
        print(f"| {network} | batch | images/s | ms per image | wasd int8 is faster by |\n| --- | ---: | ---: | ---: | ---: |")
        for batch in map(int, o.batches.split(",")):
            for c in OURS:
                ms(c, network, batch, here)  # chooses the kernels
            times = {c: [] for c in contenders}
            for _ in range(o.rounds):
                for c in contenders:
                    times[c].append(ms(c, network, batch, here))
            middle = {c: statistics.median(t) for c, t in times.items()}
            for c in contenders:
                gain = middle[c] / middle["wasd int8"]
                want = MUST.get(network, {}).get(c)
                missed += want is not None and gain < want
                print(f"| {c} | {batch} | {batch * 1e3 / middle[c]:.0f} | {middle[c] / batch:.3f} | {gain:.2f}{'' if want is None or gain >= want else f' (below {want})'} |", flush=True)
        print()
sys.exit(missed > 0)
