#!/usr/bin/python3
"""Networks layer by layer: the output of `wasd describe`, the same from the daemon, and a job with a custom network."""
import json, os, subprocess

from lib import BUILD, PATIENCE, Daemon, case, check, directory, equal, finish, noise_png, safetensors


def describe(*arguments, status=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), "describe", *arguments], capture_output=True, text=True, timeout=120 * PATIENCE)
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

with case("describe: errors"):
    check("unknown network" in describe("alexnet", status=1), "a name that is not there")
    check("/model/head" in describe("vgg16", "--head", "7", status=1), "a value that is not offered")
    for arguments in ([], ["resnet18", "lenet"], ["resnet18", "--head", "512"], ["resnet18", "--input", "32"], ["resnet18", "--classes"]):
        describe(*arguments, status=2)
    for word in ("job_01", "ckpt_01", "alexnet"):
        check("unexpected argument --chekpoint" in describe(word, "--chekpoint", "ckpt_02", status=2), f"{word}: an option that only a network could have")

OWN = {"name": "tiny", "layers": [
    {"type": "conv", "out": 16, "bias": False}, {"type": "batchnorm"}, {"type": "relu", "name": "a"},
    {"type": "conv", "name": "block.conv", "bias": False, "augment": True}, {"type": "batchnorm", "name": "b"},
    {"type": "add", "from": ["b", "a"]}, {"type": "relu"}, {"type": "maxpool", "kernel": 4},
    {"type": "flatten"}, {"type": "linear", "out": "classes"}]}

with case("describe and bench: a network from a file"):
    path = os.path.join(directory(), "tiny.json")
    with open(path, "w") as f:
        json.dump({"dataset": "any", "model": OWN}, f)
    d = json.loads(describe("--model", path, "--json"))
    equal((d["arch"], d["augmented"]["layers"], [l["name"] for l in d["layers"] if l.get("augmented")]), ("tiny", 1, ["block.conv"]))
    p = subprocess.run([os.path.join(BUILD, "wasd"), "bench", "train", "--model", path, "--batch", "2", "--steps", "1", "--json"], capture_output=True, text=True, timeout=120 * PATIENCE)
    equal((p.returncode, json.loads(p.stdout)["arch"]), (0, "tiny"))
    with open(path, "w") as f:
        json.dump({"layers": OWN["layers"][:-1]}, f)
    check("/model/layers/8: flatten8: the last layer outputs" in describe("--model", path, status=1), "what is wrong and where")

with Daemon() as d:
    with case("describe: the daemon gives the same answer, and a client may cache it"):
        url = d.client.get("/v1/capabilities").json["archs"][2]["links"]["layers"]
        r = d.client.get(url + "?input=1x28x28&classes=26", want=200)
        equal(r.json, json.loads(describe(r.json["arch"], "--input", "1x28x28", "--classes", "26", "--json")))
        d.client.request("GET", url + "?input=1x28x28&classes=26", headers={"If-None-Match": r.headers["ETag"]}, want=304)
        d.client.get("/v1/capabilities/archs/lenet?input=3x64x64", want=400)

    with case("describe: a layer that does not exist is rejected when the job is submitted"):
        d.client.post("/v1/datasets", {"name": "glyphs", "synthetic": {"kind": "glyphs", "train": 40, "test": 10, "seed": 1}}, want=(201, 202))
        d.client.get("/v1/datasets/glyphs?wait=30s")
        r = d.client.post("/v1/jobs", {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": ["conv1", "conv9"]}}, want=422)
        equal(r.json["errors"][0]["pointer"], "/was/layers/1")

    with case("jobs: faults that the engine would find at the start are reported when the job is submitted, dry run or not"):
        law = {"model": {"arch": "lenet"}, "was": {"layers": "all", "transforms": [{"type": "translate"}]}}
        for pointer, says, job in (
                ("/train/batch", "the last of 36 training images would be alone", {"model": {"arch": "efficientnet_lite0"}, "train": {"batch": 35}}),
                ("/train/batch", "the last of 21 training images would be alone", {"model": {"arch": "efficientnet_lite0"}, "train": {"batch": 20}, "data": {"limit": 21, "val_fraction": 0}}),
                ("/train/batch", "take larger batches", {"model": {"arch": "efficientnet_lite0"}, "train": {"batch": 1}}),
                ("/profiles/1/budget", "below the cheapest draw", {**law, "profiles": [{"desire": "macs", "budget": 0.95}, {"desire": "macs", "budget": 0.01}]}),
                ("/profiles/0/draw/0/layer", "nowhere", {**law, "profiles": [{"draw": [{"layer": "nowhere"}]}]}),
                ("/data/val_fraction", "of 1 training image", {"model": {"arch": "lenet"}, "data": {"limit": 1}})):
            for url in ("/v1/jobs", "/v1/jobs?dry_run=true"):
                r = d.client.post(url, {"dataset": "glyphs", **job}, want=422)
                equal(r.json["errors"][0]["pointer"], pointer)
                check(says in r.json["detail"], r.json["detail"])

    with case("custom network: its faults are reported before the job is acknowledged"):
        def refused(pointer, change, says):
            model = json.loads(json.dumps(OWN))
            change(model)
            r = d.client.post("/v1/jobs", {"dataset": "glyphs", "model": model}, want=422)
            equal(r.json["errors"][0]["pointer"], pointer)
            check(says in r.json["detail"], f"{says}: {r.json['detail']}")
        refused("/model/layers/3/kernel", lambda m: m["layers"][3].update(kernel=50, padding=0, augment=False), "block.conv: kernel 50x50")
        refused("/model/layers/5/from", lambda m: m["layers"][5].update({"from": ["b", "z"]}), "\"z\"")
        refused("/model/layers/9", lambda m: m["layers"][9].update(out=7), "10 classes need")
        refused("/model/layers/0/type", lambda m: m["layers"][0].update(type="transformer"), "known: conv")
        refused("/model/name", lambda m: m.update(name="lenet"), "published")
        refused("/model/arch", lambda m: m.update(arch="lenet"), "exclude")
        equal(d.client.get("/v1/jobs").json["items"], [])

    with case("custom network: trains, resumes after a kill, is served in both modes"):
        job = d.submit(dataset="glyphs", model=OWN, train={"epochs": 100000, "batch": 8}, name="mine")["id"]
        d.client.get(f"/v1/jobs/{job}?wait=60s&until=change")
        while not d.client.get(f"/v1/jobs/{job}").json["best"]:
            d.client.get(f"/v1/jobs/{job}?wait=5s&until=change")
        for pid in d.engines("train"):
            os.kill(pid, 9)
        while d.client.get(f"/v1/jobs/{job}").json["attempt"] < 2:
            d.client.get(f"/v1/jobs/{job}?wait=5s&until=change")
        d.client.post(f"/v1/jobs/{job}:cancel", {})
        done = d.wait_job(job, "cancelled")
        equal((done["state"], done["model"], done["was"]["layers"]), ("cancelled", OWN, "paper"))
        check(done["attempts"][1]["resume_from"], "the second attempt began with a checkpoint")
        equal(d.client.get("/v1/jobs").json["items"][0]["model"], {"name": "tiny"}, "a list leaves the layers out")
        d.deploy("mine", job)
        answers = {m: d.client.post(f"/v1/deployments/mine/classify?mode={m}", noise_png(3), headers={"Content-Type": "image/png"}).json for m in ("aom", "dom")}
        check(answers["dom"]["macs"] <= answers["aom"]["macs"], "both modes answer")
        equal(d.client.get("/v1/deployments/mine").json["arch"], "tiny")
        equal(d.client.get("/v2/models/mine").json["properties"]["arch"], "tiny")
        checkpoint = d.client.get(f"/v1/jobs/{job}/checkpoints").json["items"][0]["id"]
        meta = safetensors(d.client.get(f"/v1/checkpoints/{checkpoint}/file").body)[0]
        equal(json.loads(meta["spec"])["model"], OWN)
        again = d.submit(dataset="glyphs", model=OWN, train={"epochs": 1}, init_from=checkpoint)["id"]
        d.wait_job(again)

    with case("jobs: known problems are reported in the response"):
        r = d.client.post("/v1/jobs", {"dataset": "glyphs", "model": {"arch": "lenet"}, "data": {"limit": 9}}, want=201)
        equal(sorted(w["code"] for w in r.json["warnings"]), ["class_without_training_images", "few_validation_images"])
        d.client.post(f"/v1/jobs/{r.json['id']}:cancel", {})
finish()
