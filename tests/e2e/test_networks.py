#!/usr/bin/python3
"""Networks layer by layer: what `wasd describe` prints, and the same from the daemon."""
import json, os, subprocess

from lib import BUILD, Daemon, case, check, equal, finish


def describe(*arguments, status=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), "describe", *arguments], capture_output=True, text=True, timeout=120)
    equal(p.returncode, status, f"describe {' '.join(arguments)}: {p.stderr}")
    return p.stdout if status == 0 else p.stderr


with case("describe: a table for people"):
    table = describe("resnet18")
    check("12,550,250 parameters, 605,754,368 multiply-adds" in table, "the totals")
    marked = [line.split()[2] for line in table.splitlines() if line[5:6] == "*"]
    equal(len(marked), 16, "marked lines")
    equal(marked[0], "layer1.0.conv1")
    check("16 augmented convolutions, 90.4 % of the multiply-adds" in table, "their share")
    check('{"type":"translate","x":0.3,"y":0.3,"weight":1}' in table, "the network's own strategy")

with case("describe: JSON for programs, other shapes and options"):
    d = json.loads(describe("vgg16", "--head", "4096", "--input", "1x48x64", "--classes", "7", "--json"))
    equal((d["input"], d["classes"], d["model"]), ([1, 48, 64], 7, {"arch": "vgg16", "head": 4096}))
    equal(d["layers"][-1]["shape"], [7, 1, 1])

with case("describe: what it refuses"):
    check("unknown network" in describe("alexnet", status=1), "a name that is not there")
    check("/model/head" in describe("vgg16", "--head", "7", status=1), "a value that is not offered")
    for arguments in ([], ["resnet18", "lenet"], ["resnet18", "--head", "512"], ["resnet18", "--input", "32"], ["resnet18", "--classes"]):
        describe(*arguments, status=2)

with Daemon() as d:
    with case("describe: the daemon answers the same, and a client may keep it"):
        url = d.client.get("/v1/capabilities").json["archs"][2]["links"]["layers"]
        r = d.client.get(url + "?input=1x28x28&classes=26", want=200)
        equal(r.json, json.loads(describe(r.json["arch"], "--input", "1x28x28", "--classes", "26", "--json")))
        d.client.request("GET", url + "?input=1x28x28&classes=26", headers={"If-None-Match": r.headers["ETag"]}, want=304)
        d.client.get("/v1/capabilities/archs/lenet?input=3x64x64", want=400)

    with case("describe: a layer that is not there is refused when the job is submitted"):
        d.client.post("/v1/datasets", {"name": "glyphs", "synthetic": {"kind": "glyphs", "train": 40, "test": 10, "seed": 1}}, want=(201, 202))
        d.client.get("/v1/datasets/glyphs?wait=30s")
        r = d.client.post("/v1/jobs", {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": ["conv1", "conv9"]}}, want=422)
        equal(r.json["errors"][0]["pointer"], "/was/layers/1")
finish()
