#!/usr/bin/python3
"""The precision of a job: precisions listed in the capabilities can be trained; unsupported ones are rejected when the job is submitted."""
import json, os, subprocess

from lib import BUILD, Daemon, Skip, case, check, equal, finish

HIDDEN = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}          # oneDNN then finds no bf16 instructions, as on an older processor
EPOCHS = 5
LENET = dict(dataset="glyphs", model={"arch": "lenet"}, was=False, checkpoint={"every": EPOCHS})


def capabilities(d):
    return d.client.get("/v1/capabilities").json


def train(precision):
    return {"epochs": EPOCHS, "batch": 25, "precision": precision, "optimizer": {"type": "adamw", "lr": 0.002}}


def refuses(d, why):
    reply = d.client.post("/v1/jobs", dict(LENET, train=train("bf16")), want=422)
    equal([(e["pointer"], "bf16" in e["detail"]) for e in reply.json["errors"]], [("/train/precision", True)], why)
    equal(reply.json["code"], "unsupported")


def run(d):
    caps = capabilities(d)
    with open("/proc/cpuinfo") as f:
        able = "avx512_bf16" in f.read() and "onednn" in caps["backends"]

    with case("capabilities list the precisions that this processor supports"):
        equal(caps["precisions"], ["fp32", "fp32-strict"] + (["bf16"] if able else []))

    d.glyphs(train=300, test=50)
    curves = {}
    for precision in caps["precisions"]:
        with case(f"LeNet learns in {precision}"):
            curves[precision] = []
            for _ in range(1 if precision == "fp32" else 2):
                job = d.submit(**LENET, train=train(precision))
                equal(job["train"]["precision"], precision)
                d.wait_job(job["id"])
                losses = d.series(job["id"])["train_loss"]
                check(losses[EPOCHS] < losses[1], f"training loss falls: {losses}")
                curves[precision].append(losses)
    with case("the same job gives the same losses, bit for bit"):
        for precision, runs in curves.items():
            equal(runs[-1], runs[0], precision)
    with case("bf16 rounds slightly differently from fp32"):
        if "bf16" not in curves:
            raise Skip("this processor has no bf16 instructions")
        a, b = curves["fp32"][0][EPOCHS], curves["bf16"][0][EPOCHS]
        check(a != b and abs(a - b) < 0.1 * a, f"losses after {EPOCHS} epochs: {a} in fp32, {b} in bf16")
    if not able:
        with case("bf16 is rejected where it is not supported"):
            refuses(d, "bf16 here")


def bench(precision, **env):
    return subprocess.run([os.path.join(BUILD, "wasd-engine"), "bench", "infer", "--arch", "lenet", "--was", "off", "--precision", precision, "--steps", "1", "--json"],
                          capture_output=True, text=True, env=dict(os.environ, **env))


with Daemon() as d:
    run(d)

with Daemon(env=HIDDEN) as d:
    d.glyphs(train=300, test=50)
    with case("a processor without the instructions: bf16 not listed, rejected, and fp32 trains"):
        equal(capabilities(d)["precisions"], ["fp32", "fp32-strict"])
        refuses(d, "bf16 with the instructions hidden")
        d.wait_job(d.submit(**LENET, train=train("fp32"))["id"])

with case("bench reports its precision, or why it is not supported"):
    one = json.loads(bench("fp32-strict").stdout)
    equal(one["precision"], "fp32-strict")
    refused = bench("bf16", **HIDDEN)
    equal((refused.returncode, "bf16" in refused.stderr), (1, True), refused.stderr)

with case("bench infer --mode int8 computes in 8 bits, or is refused where pairs of products would saturate"):
    command = [os.path.join(BUILD, "wasd-engine"), "bench", "infer", "--arch", "mobilenetv2", "--was", "off", "--mode", "int8", "--steps", "1", "--explain", "--json"]
    hidden = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, DNNL_MAX_CPU_ISA="AVX512_CORE"))
    check(hidden.returncode == 1 and "int8 needs" in hidden.stderr, hidden.stderr)
    shown = subprocess.run(command, capture_output=True, text=True)
    if shown.returncode and "int8 needs" in shown.stderr:
        raise Skip("this processor has no VNNI instructions")
    ways = {c["layer"]: c["algorithm"] for c in json.loads(shown.stdout)["choices"]}
    equal([layer for layer, way in ways.items() if not way.startswith("int8")], [list(ways)[-1]], "the last layer alone keeps float weights")
    check("int8 depthwise" in ways.values() and "int8" in ways.values(), ways)

finish()
