#!/usr/bin/python3
"""Weights from elsewhere: uploaded as a blob, then used as a checkpoint, a live model, or the start of a job; errors name what does not fit."""
import array, hashlib, json, os, random, struct

from lib import Daemon, case, check, equal, finish, safetensors, write_safetensors

WAS = {"layers": "all", "transforms": [{"type": "translate", "x": 0.3, "y": 0.3}]}
SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": WAS, "train": {"epochs": 3, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.002}}}


def bf16(tensor):
    dtype, shape, data = tensor
    equal(dtype, "F32")
    return "BF16", shape, b"".join(data[i + 2:i + 4] for i in range(0, len(data), 4))


with Daemon() as d:
    c = d.client
    d.glyphs(train=600, test=100)
    job = d.wait_job(d.submit(**SPEC)["id"])["id"]
    ckpt = c.get(f"/v1/jobs/{job}/checkpoints").json["items"][0]["id"]
    ours = c.get(f"/v1/checkpoints/{ckpt}/file").body
    meta, tensors = safetensors(ours)
    r = random.Random(4)
    x = [r.uniform(-1, 1) for _ in range(2 * 3 * 32 * 32)]
    theirs = {"model": {"arch": "lenet"}, "classes": list("abcdefghij"), "input": [3, 32, 32]}

    def send(data, want=201):
        sha256 = hashlib.sha256(data).hexdigest()
        c.put(f"/v1/blobs/{sha256}", data, want=want)
        return sha256

    def infer(name, mode):
        reply = c.post(f"/v2/models/{name}/infer", {"parameters": {"was_mode": mode}, "inputs": [{"name": "input", "shape": [2, 3, 32, 32], "datatype": "FP32", "data": x}],
                                                    "outputs": [{"name": "logits"}]}, want=200).json
        return array.array("f", reply["outputs"][0]["data"]).tobytes()

    with case("a blob: only under its digest, once, whole and in ranges"):
        ours_sha = hashlib.sha256(ours).hexdigest()
        c.request("HEAD", f"/v1/blobs/{ours_sha}", want=404)
        wrong = c.put(f"/v1/blobs/{'0' * 64}", ours, want=409).json
        check(ours_sha in wrong["detail"], wrong)
        c.put("/v1/blobs/model.safetensors", ours, want=400)
        c.put(f"/v1/blobs/{ours_sha}", b"", want=400)
        send(ours)
        send(ours, want=200)
        equal(c.request("HEAD", f"/v1/blobs/{ours_sha}", want=200).headers["Content-Length"], str(len(ours)))
        equal(c.get(f"/v1/blobs/{ours_sha}", want=206, headers={"Range": "bytes=8-99"}).body, ours[8:100])
        equal((os.listdir(os.path.join(d.data, "blobs")), os.listdir(os.path.join(d.data, "staging"))), ([ours_sha], []))

    with case("export and re-import: a live model answers with the same bits in both modes"):
        c.post("/v1/deployments", {"name": "original", "source": {"checkpoint": ckpt}}, want=(201, 202))
        d.wait_deployment("original")
        made = c.post("/v1/checkpoints", {"blob": ours_sha}, want=201).json
        equal((made["job"], made["reason"], made["info"]["arch"]), (None, "import", "lenet"))
        equal(c.post("/v1/checkpoints", {"blob": ours_sha}, want=201).json["id"], made["id"], "the same again")
        c.post("/v1/deployments", {"name": "again", "source": {"blob": ours_sha}}, want=(201, 202))
        live = d.wait_deployment("again")
        equal((live["checkpoint"], live["classes"], live["input"]), (made["id"], json.loads(meta["classes"]), [3, 32, 32]))
        for mode in ("aom", "dom"):
            equal(infer("again", mode), infer("original", mode), mode)
        equal(c.get(f"/v1/checkpoints/{made['id']}/file?format=onnx&mode=dom").body, c.get(f"/v1/checkpoints/{ckpt}/file?format=onnx&mode=dom").body, "the ONNX file")
        equal(c.get(f"/v1/checkpoints/{made['id']}/file").status, 200)
        equal([k["id"] for k in c.get("/v1/checkpoints").json["items"]], [made["id"]])

    with case("a third party's file: bare tensors, other members in the request"):
        bare = send(write_safetensors({n: t for n, t in tensors.items() if not n.startswith("dom.")}))
        c.post("/v1/deployments", {"name": "theirs", "source": {"blob": bare, **theirs}}, want=(201, 202))
        live = d.wait_deployment("theirs")
        equal((live["classes"], sorted(live["modes"])), (list("abcdefghij"), ["aom"]))
        equal(infer("theirs", "aom"), infer("original", "aom"))
        half = send(write_safetensors({n: bf16(t) for n, t in tensors.items() if not n.startswith("dom.")}))
        c.post("/v1/deployments", {"name": "half", "source": {"blob": half, **theirs}}, want=(201, 202))
        d.wait_deployment("half")
        a, b = (array.array("f", infer(n, "aom")) for n in ("half", "theirs"))
        check(0 < max(abs(u - v) for u, v in zip(a, b)) < 0.1 * max(map(abs, b)), "rounded, and close")
        d.kill()
        d.start()
        c = d.client
        for name in ("theirs", "original"):
            d.wait_deployment(name)
        equal(infer("theirs", "aom"), infer("original", "aom"), "after a kill")

    with case("tensors that do not fit are named in the error, and nothing is created"):
        before = c.get("/v1/checkpoints").json["items"]
        name = "conv1.weight"
        rest = {n: t for n, t in tensors.items() if n != name}
        dtype, shape, data = tensors[name]
        for what, file, pointer, words in (
                ("missing", rest, name, "missing"),
                ("unexpected", {**tensors, "conv9.weight": ("F32", [1], b"\0\0\0\0")}, "conv9.weight", "unexpected"),
                ("shape", {**rest, name: (dtype, [shape[0], -1 * -shape[1] * shape[2], shape[3]], data)}, name, "6x3x5x5"),
                ("type", {**rest, name: ("I32", shape, data)}, name, "I32"),
                ("nan", {**rest, name: (dtype, shape, data[:-4] + b"\0\0\xc0\x7f")}, name, "nan")):
            sha256 = send(write_safetensors(file))
            for path, body, at in (("/v1/deployments", {"name": "bad", "source": {"blob": sha256, **theirs}}, "/source"), ("/v1/jobs", {**SPEC, "init_from": {"blob": sha256}}, "/init_from"),
                                   ("/v1/checkpoints", {"blob": sha256, **theirs}, "")):
                problem = c.post(path, body, want=422).json
                equal((problem["code"], problem["errors"][0]["pointer"]), ("bad_weights", pointer), f"{what}, {path}")
                check(words in problem["detail"], problem["detail"])
        for body, code, pointer in (({"blob": bare, **theirs, "model": {"arch": "resnet19"}}, "invalid_field", "/source/model/arch"),
                                    ({"blob": bare, "model": {"arch": "lenet"}, "classes": list("ab")}, "invalid_field", "/source/input"),
                                    ({"blob": bare, "input": [3, 32, 32]}, "invalid_field", "/source/model"),
                                    ({"blob": bare, **theirs, "input": [3, 30, 30]}, "invalid_field", "/source/input"),
                                    ({"blob": "0" * 64}, "invalid_field", "/source/blob"), ({"blob": "x"}, "invalid_field", "/source/blob"),
                                    ({"blob": bare, "labels": []}, "invalid_field", "/source/labels"), ({"blob": bare, **theirs, "model": {"arch": "vgg16"}}, "bad_weights", None)):
            problem = c.post("/v1/deployments", {"name": "bad", "source": body}, want=422).json
            equal(problem["code"], code, f"{body}: {problem}")
            if pointer:
                equal(problem["errors"][0]["pointer"], pointer, f"{body}: {problem['detail']}")
        c.post("/v1/deployments", {"name": "bad", "source": {"blob": bare, **theirs}, "mode": "dom"}, want=422)
        equal({k["id"] for k in c.get("/v1/checkpoints").json["items"]}, {k["id"] for k in before}, "no checkpoint was made")
        c.get("/v1/deployments/bad", want=404)

    with case("hostile files: false headers, offsets that overlap or leave the file"):
        header = lambda text, n=None: struct.pack("<Q", len(text) if n is None else n) + text
        two = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[%d,%d]}}'
        for file in (b"x", b"PK\3\4" + bytes(100), header(b"{}", 1 << 63), header(b"{}", 200 << 20), header(b"[]"), header(two % (4, 12)) + bytes(12), header(two % (8, 16)) + bytes(8),
                     header(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'), header(b'{"a":' * 5000), ours[:-1], ours + b"\0"):
            problem = c.post("/v1/checkpoints", {"blob": send(file), **theirs}, want=422).json
            equal(problem["code"], "bad_weights", f"{file[:40]}: {problem}")
        c.get("/healthz")

    with case("a job starts from it"):
        n = len(c.get("/v1/checkpoints").json["items"])
        dry = c.post("/v1/jobs?dry_run=true", {**SPEC, "init_from": {"blob": half}}, want=200).json
        equal((dry["init_from"], len(c.get("/v1/checkpoints").json["items"])), ({"blob": half}, n), "a dry run makes nothing")
        started = d.submit(**SPEC, init_from={"blob": half})
        check(started["init_from"].startswith("ckpt_"), started["init_from"])
        d.wait_job(started["id"])
        scratch, warm = d.series(job)["train_loss"], d.series(started["id"])["train_loss"]
        check(warm[1] < min(scratch.values()), f"it goes on from where the weights were: {warm} against {scratch}")

    with case("an import is kept while it is in use, and can be deleted afterwards"):
        refused = c.delete(f"/v1/checkpoints/{made['id']}", want=409).json
        check("again" in refused["detail"], refused["detail"])
        c.delete("/v1/deployments/again")
        c.delete(f"/v1/checkpoints/{made['id']}", want=204)
        c.get(f"/v1/checkpoints/{made['id']}", want=404)

finish()
