#!/usr/bin/python3
"""Exporting a trained checkpoint to files for other programs, by HTTP and by `wasd export`."""
import hashlib, json, os, random, shutil, subprocess

from lib import BUILD, PATIENCE, TOP, Client, Daemon, Skip, case, check, directory, equal, finish, safetensors

SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all", "transforms": [{"type": "translate", "x": 0.3, "y": 0.3}]},
        "train": {"epochs": 2, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.001}}}


def wasd(*args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=120 * PATIENCE)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout + p.stderr


with Daemon() as d:
    c = d.client
    d.glyphs(train=200, test=50)
    job = d.wait_job(d.submit(**SPEC)["id"])["id"]
    ckpt = c.get(f"/v1/jobs/{job}/checkpoints").json["items"][0]
    file = f"/v1/checkpoints/{ckpt['id']}/file"
    here = directory()

    with case("safetensors: weights and labels, ranges, entity tags, HEAD; and the stored file"):
        whole = c.get(file)
        meta, tensors = safetensors(whole.body)
        equal(json.loads(meta["input"]), [3, 32, 32])
        equal(len(json.loads(meta["classes"])), 10)
        equal(json.loads(meta["modes"]), ["aom", "dom"])
        equal(tensors["conv1.weight"][1], [6, 3, 5, 5])
        check(not any(n.startswith(("optim.", "state.")) for n in tensors), tensors.keys())
        equal(whole.headers["ETag"], f'"{hashlib.sha256(whole.body).hexdigest()}"')
        equal(whole.headers["Content-Disposition"], f'attachment; filename="{job}-epoch{ckpt["epoch"]}.safetensors"')
        c.get(file, want=304, headers={"If-None-Match": whole.headers["ETag"]})
        part = c.get(file, want=206, headers={"Range": "bytes=100-299"})
        equal((part.body, part.headers["Content-Range"]), (whole.body[100:300], f"bytes 100-299/{len(whole.body)}"))
        c.get(file, want=416, headers={"Range": f"bytes={len(whole.body)}-"})
        head = c.request("HEAD", file, want=200)
        equal((head.headers["Content-Length"], head.body), (str(len(whole.body)), b""))
        stored = c.get(file + "?format=wasd")
        equal((len(stored.body), hashlib.sha256(stored.body).hexdigest()), (ckpt["bytes"], ckpt["sha256"]))
        check(any(n.startswith("optim.") for n in safetensors(stored.body)[1]), "the stored file holds the optimizer's state")

    with case("onnx: either mode, fewer bytes without the dead taps; an error for a mode that does not exist"):
        models = {mode: c.get(f"{file}?format=onnx&mode={mode}") for mode in ("aom", "dom")}
        for mode, m in models.items():
            check(m.body.startswith(b"\x08\x07\x12\x04wasd") and b"logits" in m.body, f"{mode}: an ONNX model's beginning")
            equal(m.headers["Content-Disposition"], f'attachment; filename="{job}-epoch{ckpt["epoch"]}-{mode}.onnx"')
            equal(c.get(f"{file}?format=onnx&mode={mode}", want=206, headers={"Range": "bytes=7-99"}).body, m.body[7:100])
        equal(c.get(f"{file}?format=onnx").headers["ETag"], models["aom"].headers["ETag"], "aom is the default")
        check(models["aom"].headers["ETag"] != models["dom"].headers["ETag"], "two files")
        plain = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was=False, train={"epochs": 1})["id"])["id"]
        other = f"/v1/checkpoints/{c.get(f'/v1/jobs/{plain}/checkpoints').json['items'][0]['id']}/file?format=onnx"
        c.get(other)
        refused = c.get(other + "&mode=dom", want=422).json
        equal((refused["code"], refused["errors"][0]["pointer"]), ("unsupported", "mode"))
        check("without WAS" in refused["detail"], refused["detail"])
        check(len(os.listdir(os.path.join(d.data, "exports"))) == 4, "what was refused left no file")

    with case("exported once and kept; exported again after a restart of the daemon"):
        kept = os.listdir(os.path.join(d.data, "exports"))
        check(f"{ckpt['id']}.aom.safetensors" in kept, kept)
        d.kill()
        d.start()
        c = d.client
        equal(os.listdir(os.path.join(d.data, "exports")), [])
        equal(c.get(file).body, whole.body)

    with case("a conversion whose process is killed is repeated"):
        for pid in d.engines("convert"):
            os.kill(pid, 9)
        for name in os.listdir(os.path.join(d.data, "exports")):
            os.unlink(os.path.join(d.data, "exports", name))
        reply = c.get(file, want=(200, 503))
        equal((reply if reply.status == 200 else c.get(file)).body, whole.body)

    with case("wasd export"):
        url = f"127.0.0.1:{d.port}"
        out = os.path.join(here, "model.safetensors")
        check("model.safetensors" in wasd("export", ckpt["id"], "--output", out, "--url", url), "it says what it wrote")
        equal(open(out, "rb").read(), whole.body)
        wasd("export", ckpt["id"], "--format", "wasd", "--output", out, "--url", url)
        equal(open(out, "rb").read(), stored.body)
        wasd("export", ckpt["id"], "--format", "onnx", "--mode", "dom", "--output", out, "--url", url)
        equal(open(out, "rb").read(), models["dom"].body)
        check("no checkpoint ckpt_none" in wasd("export", "ckpt_none", "--output", os.path.join(here, "none"), "--url", url, rc=1), "the daemon's reason")
        equal(os.listdir(here), ["model.safetensors"])
        check("--format" in wasd("export", "--help"), "help")
        wasd("export", rc=2)
        wasd("export", "a/b", rc=2)
        wasd("export", ckpt["id"], "--format", rc=2)

    with case("onnx: a masked and companded network answers in ONNX Runtime as it is served, in both modes"):
        ort, models = os.environ.get("WASD_ONNXRUNTIME"), directory()
        if not ort or not shutil.which("node"):
            raise Skip("WASD_ONNXRUNTIME does not name a folder with node_modules/onnxruntime-node (npm install --ignore-scripts onnxruntime-node)")
        masked = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, train=SPEC["train"], weights=[
            {"type": "magnitude", "sparsity": 0.8, "begin": 0.5, "end": 1, "every": 2}, {"type": "compander", "unit": "std"}, {"type": "was", **SPEC["was"]}])["id"])
        best = c.get(f"/v1/jobs/{masked['id']}").json["best"]["checkpoint"]
        alive = c.get(f"/v1/checkpoints/{best}/layers").json["share"]
        check(0.1 < alive < 0.9, f"{alive} of the weights are alive")
        d.deploy("masked", masked["id"])
        noise = random.Random(1)
        x = [round(noise.uniform(-1, 1), 6) for _ in range(3 * 3072)]
        for mode in ("aom", "dom"):
            tensor = {"name": "input", "shape": [3, 3, 32, 32], "datatype": "FP32", "data": x}
            served = c.post("/v2/models/masked/infer", {"inputs": [tensor], "outputs": [{"name": "logits"}], "parameters": {"was_mode": mode}}).json["outputs"][0]["data"]
            with open(os.path.join(models, mode + ".onnx"), "wb") as f:
                f.write(c.get(f"/v1/checkpoints/{best}/file?format=onnx&mode={mode}").body)
            with open(os.path.join(models, mode + ".json"), "w") as f:
                json.dump({"shape": [3, 32, 32], "classes": 10, "x": x, "logits": served}, f)
        p = subprocess.run(["node", os.path.join(TOP, "tests", "core", "onnx_check.js"), ort, models, "1e-5"], capture_output=True, text=True, timeout=120 * PATIENCE)
        print(p.stdout, end="")
        equal(p.returncode, 0, p.stdout + p.stderr)
        equal(p.stdout.count("ONNX Runtime"), 2, p.stdout)

    with case("a checkpoint that does not exist"):
        c.get("/v1/checkpoints/ckpt_none/file", want=404)

finish()
