#!/usr/bin/python3
"""One live deployment with modes of every kind: 500 switches among them under 8 clients, every answer the bits of its own mode."""
import os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from lib import Daemon, Skip, case, equal, finish
from switches import run


def need_vnni():
    with open("/proc/cpuinfo") as f:
        if "avx512_vnni" not in f.read():
            raise Skip("this processor has no VNNI instructions")


def trained(d, **spec):
    job = d.submit(dataset="glyphs", model={"arch": "lenet"}, **spec)
    d.wait_job(job["id"])
    return d.client.get(f"/v1/jobs/{job['id']}/checkpoints").json["items"][0]["id"]


def make(d, ckpt, **request):
    made = d.client.post(f"/v1/checkpoints/{ckpt}/modes", request, want=202).json
    while made["state"] in ("queued", "searching"):
        made = d.client.get(f"/v1/checkpoints/{ckpt}/modes/{made['name']}?wait=60s").json
    equal(made["state"], "ready", made)
    return made["name"]


with Daemon() as d:
    d.glyphs(train=400, test=50)
    with case("plain weights, a draw, a searched profile, a width, and int8 of each"):
        need_vnni()
        ckpt = trained(d, weights=[{"type": "slices", "widths": [0.5, 1], "teacher": "largest"}, {"type": "was", "layers": "all"}], train={"epochs": 2, "batch": 50, "seed": 3})
        modes = ["aom", "dom", make(d, ckpt, desire="macs", budget=0.9, name="light", evaluations=16), "width:0.5"]
        modes += [make(d, ckpt, desire="int8", base=base, name=f"of-{k}", images=64) for k, base in enumerate(modes)]
        told = run(d, [ckpt], connections=8, switches=500, swaps=0, modes=modes)
        equal(told["generations"], 501)
finish()
