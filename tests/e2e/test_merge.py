#!/usr/bin/python3
"""Merging and archiving checkpoints with a real daemon: the path, the result in every use of a checkpoint, archives read back, refusals, cancelling,
and kill -9 in the middle."""
import csv, glob, hashlib, io, json, os, signal, struct, subprocess, tarfile, tempfile

from lib import BUILD, PATIENCE, Daemon, Events, case, check, equal, finish, noise_png, safetensors


def conv(name, **more):
    return [{"type": "conv", "name": name, "out": 8, "bias": False, "augment": True, **more}, {"type": "batchnorm", "name": name + ".bn"}]


RELU = {"type": "relu"}
NETWORK = {"name": "block", "layers": conv("stem", stride=2) + [{**RELU, "name": "r"}] + conv("c1") + [RELU] + conv("c2") + [
    {"type": "add", "from": ["r", "c2.bn"]}, RELU, {"type": "maxpool", "kernel": 2}, {"type": "flatten"}, {"type": "linear", "out": "classes"}]}
SPEC = {"dataset": "glyphs", "model": NETWORK, "train": {"epochs": 2, "batch": 64}, "was": {"transforms": [{"type": "translate", "x": 0.3, "y": 0.3}]}}
PNG = {"Content-Type": "image/png"}
POINTS = 31                                      # of a merge that the test has time to interrupt


def wasd(*args, rc=0):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=120 * PATIENCE)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout + p.stderr


def ended(d, merge, want="ready", of="merges"):
    for _ in range(10):
        m = d.client.get(f"/v1/{of}/{merge}?wait=60s").json
        if m["state"] in ("ready", "failed"):
            equal(m["state"], want, f"{merge}: {m['message']}")
            return m
    raise AssertionError(f"still {m['state']}: {m}")


def begin(d, **request):
    return d.client.post("/v1/checkpoints:merge", request, want=202).json["id"]


def running(d, merge):
    """Until the first batches have been measured."""
    while True:
        m = d.client.get(f"/v1/merges/{merge}").json
        equal(m["state"] in ("queued", "running"), True, f"{m}")
        if m.get("progress", {}).get("done"):
            return m


def archive(**request):
    """Makes one; returns it, and the bytes of the tar's entries by name."""
    m = c.get(c.post("/v1/checkpoints:archive", request, want=202).headers["Location"] + "?wait=60s").json
    equal(m["state"], "ready", f"{m}")
    tar = c.get(f"/v1/archives/{m['id']}/file").body
    equal((len(tar), hashlib.sha256(tar).hexdigest()), (m["bytes"], m["sha256"]))
    with tarfile.open(fileobj=io.BytesIO(tar)) as t:
        equal({(e.mtime, e.uid, e.isfile()) for e in t}, {(0, 0, True)})
        return m, {e.name: t.extractfile(e).read() for e in t}


def making(d):
    """An archive that takes long, of which a part is written."""
    m = c.post("/v1/checkpoints:archive", {"checkpoints": ckpts, "views": [{"type": "mixup"}], "per_checkpoint": 1000}, want=202).json["id"]
    while not c.get(f"/v1/archives/{m}").json.get("progress", {}).get("done"):
        pass
    check(os.path.exists(f"{d.data}/exports/{m}.tar.part"), "it is being written")
    return m


def values(tensor):
    return struct.unpack(f"<{len(tensor[2]) // 4}f", tensor[2])


with Daemon() as d:
    c = d.client
    d.glyphs(train=500, test=50)
    ids = [d.submit(**{**SPEC, "train": {**SPEC["train"], "seed": seed}})["id"] for seed in (1, 2)]
    a, b = ckpts = [d.wait_job(job)["best"]["checkpoint"] for job in ids]

    with case("two runs: followed to the end, with the path between them"):
        events = Events(d.port, "/v1/events?topics=checkpoints")
        reply = c.post("/v1/checkpoints:merge", {"checkpoints": ckpts, "path": 5}, want=202)
        m = reply.json
        equal(reply.headers["Location"], f"/v1/merges/{m['id']}")
        check(m["state"] in ("queued", "running") and m["checkpoint"] is None and m["dataset"] == {"name": "glyphs", "version": 1}, m)
        done = events.until(lambda e: e.type == "checkpoint.merge", what="the merge's end")
        events.close()
        m = ended(d, m["id"])
        equal(done.data["checkpoint"], m["checkpoint"])
        equal([p["lambda"] for p in m["merge"]["path"]], [0, 0.25, 0.5, 0.75, 1])
        equal(m["metrics"]["val_acc_aom"], m["merge"]["path"][2]["accuracy"])
        equal(m["merge"]["from"], [{"checkpoint": a, "weight": 0.5}, {"checkpoint": b, "weight": 0.5}])
        before, after = m["merge"]["inner"][0]
        check(after > before and m["merge"]["barrier"] >= 0 and "val_acc_dom" in m["metrics"], m)
        equal([i["id"] for i in c.get("/v1/merges").json["items"]], [m["id"]])
        merged = m["checkpoint"]

    with case("the result is a checkpoint like any other"):
        k = c.get(f"/v1/checkpoints/{merged}").json
        equal((k["job"], k["reason"], k["info"]["merge"]["path"], k["metrics"]), (None, "merge", m["merge"]["path"], m["metrics"]))
        check(merged in [i["id"] for i in c.get("/v1/checkpoints").json["items"]], "it is listed among those without a job")
        c.post("/v1/deployments", {"name": "mixed", "source": {"checkpoint": merged}}, want=(201, 202))
        d.wait_deployment("mixed")
        for mode in ("aom", "dom"):
            equal(c.post(f"/v1/deployments/mixed/classify?mode={mode}", noise_png(1), headers=PNG).json["mode"], mode)
        equal([x["name"] for x in c.get(f"/v1/checkpoints/{merged}/modes").json["items"]][:2], ["aom", "dom"])
        equal(c.get(f"/v1/checkpoints/{merged}/layers").json["arch"], "block")
        check(c.get(f"/v1/checkpoints/{merged}/file?format=onnx&mode=dom").body, "an ONNX file")
        check("merged_from" in safetensors(c.get(f"/v1/checkpoints/{merged}/file?format=wasd").body)[0], "its metadata say so")
        c.post("/v1/models", {"name": "soup"})
        c.post("/v1/models/soup/versions", {"checkpoint": merged}, want=201)
        job = d.submit(**{**SPEC, "train": {"epochs": 1, "batch": 32, "seed": 5}, "init_from": {"checkpoint": merged}})["id"]
        d.wait_job(job)

    with case("all the weight to the first: its very weights"):
        one = ended(d, begin(d, checkpoints=ckpts, weights=[1, 0], align="none"))
        files = [safetensors(c.get(f"/v1/checkpoints/{x}/file").body)[1] for x in (one["checkpoint"], a)]
        for name in files[0]:
            if "running" not in name:
                equal(files[0][name], files[1][name], name)

    with case("by activations, and without statistics"):
        ended(d, begin(d, checkpoints=ckpts, align="activations"))
        bare = ended(d, begin(d, checkpoints=ckpts, recalibrate=False))
        equal((bare.get("dataset"), bare["metrics"]), (None, {}))
        c.post("/v1/deployments", {"name": "bare", "source": {"checkpoint": bare["checkpoint"]}}, want=(201, 202, 409, 422))
        d.wait_job(d.submit(**{**SPEC, "train": {"epochs": 1, "batch": 64}, "init_from": {"checkpoint": bare["checkpoint"]}})["id"])

    with case("what is refused at once"):
        for body, pointer in (({"checkpoints": [a]}, "/checkpoints"), ({}, "/checkpoints"), ({"checkpoints": [a, "ckpt_0"]}, "/checkpoints/1"),
                              ({"checkpoints": [a, 7]}, "/checkpoints/1"), ({"checkpoints": ckpts, "weights": [0.5, 0.2]}, "/weights"),
                              ({"checkpoints": ckpts, "align": "luck"}, "/align"), ({"checkpoints": [a, b, a], "path": 5}, "/path"),
                              ({"checkpoints": ckpts, "path": 1}, "/path"), ({"checkpoints": ckpts, "dataset": "none"}, "/dataset"),
                              ({"checkpoints": ckpts, "lambda": 0.5}, "/lambda")):
            equal(c.post("/v1/checkpoints:merge", body, want=422).json["errors"][0]["pointer"], pointer, str(body))
        c.get("/v1/merges/merge_0", want=404)
        c.delete("/v1/merges/merge_0", want=404)

    with case("another network is refused by name"):
        other_network = other = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, train={"epochs": 1, "batch": 250})["id"])["best"]["checkpoint"]
        m = ended(d, begin(d, checkpoints=[a, other]), want="failed")
        equal((m["pointer"], m["checkpoint"]), ("/checkpoints/1", None))
        check("another network" in m["message"] and other in m["message"], m["message"])
        d.glyphs(name="more", train=100, test=20)
        equal(ended(d, begin(d, checkpoints=ckpts, dataset="more"))["dataset"]["name"], "more")

    with case("the command"):
        said = wasd("merge", a, b, "--path", "3", "--url", f"http://127.0.0.1:{d.port}")
        lines = said.splitlines()
        equal(lines[0].split(), ["LAMBDA", "LOSS", "ACCURACY"])
        equal(len(lines), 6, said)
        check(lines[4].startswith("barrier: ") and lines[5].startswith(merged + ": aom 0."), said)
        check("/checkpoints/1" in wasd("merge", a, "ckpt_0", "--url", f"http://127.0.0.1:{d.port}", rc=1), "it names the faulty one")
        wasd("merge", a, rc=2)

    VIEWS = [{"type": "noise"}, {"type": "permute"}, {"type": "mixup"}, {"type": "mixup", "align": "random", "lambda": [0.2, 0.4]}, {"type": "mixup", "align": "none", "with": "dropout"},
             {"type": "dropout", "p": 0.5}, {"type": "quantile"}, {"type": "scale", "by": 0.5}]

    with case("an archive: weights and views in one layout, specs, and a table that Python reads"):
        made, tar = archive(checkpoints=ckpts, views=VIEWS, seed=7)
        names = ["weights/" + x + end for x in ckpts for end in (".safetensors", *(f".view-{v + 1}.safetensors" for v in range(len(VIEWS))))]
        equal(sorted(tar), sorted([*names, *(f"specs/{job}.json" for job in ids), "checkpoints.csv"]))
        equal((made["files"], made["checkpoints"]), (len(names), ckpts))
        rows = list(csv.DictReader(io.StringIO(tar["checkpoints.csv"].decode())))
        equal([row["file"] for row in rows], names)
        files = {name: safetensors(tar[name]) for name in names}
        layout = [(name, *t[:2]) for name, t in files[names[0]][1].items()]
        for name, (_, tensors) in files.items():
            equal([(k, *t[:2]) for k, t in tensors.items()], layout, name)
        for row, job in zip([r for r in rows if not r["view"]], ids):
            k = c.get(f"/v1/checkpoints/{row['checkpoint']}").json
            equal((row["job"], row["seed"], int(row["epoch"]), float(row["val_acc"]), float(row["val_loss"]), row["statistics"]),
                  (job, str(ids.index(job) + 1), k["epoch"], k["metrics"]["val_acc_aom"], k["metrics"]["val_loss_aom"], "measured"))
            equal(json.loads(tar[row["spec"]])["train"]["seed"], int(row["seed"]))
            whole = safetensors(c.get(f"/v1/checkpoints/{row['checkpoint']}/file").body)[1]
            equal(files[row["file"]][1], {k: data for k, data in whole.items() if not k.startswith("dom.")}, "as an export")
        of = {row["file"]: row for row in rows}
        for i, (x, other) in enumerate((ckpts, ckpts[::-1])):
            noise, permute, mixup, random, own, dropout, quantile, scale = [of[f"weights/{x}.view-{v + 1}.safetensors"] for v in range(len(VIEWS))]
            equal([r["view"] for r in (noise, permute, mixup, own)], ["noise", "permute", "mixup", "mixup"])
            equal([r["parameters"] for r in (noise, permute, mixup, random, own, dropout, scale)],
                  ["std=0.32", "", "align=weights with=other", "align=random with=other", "align=none with=dropout", "p=0.5", "by=0.5"])
            equal([r["statistics"] for r in (noise, permute, mixup)], ["stale", "permuted", "stale"])
            equal({r["val_acc"] for r in (noise, permute, mixup)}, {""}, "no view is measured")
            equal((mixup["partner"], own["partner"], noise["partner"], noise["label"], noise["partner_label"]), (other, x, "", "1", "0"))
            check(0.2 <= float(random["lambda"]) <= 0.4 and 0 <= float(mixup["lambda"]) <= 1, (random, mixup))
            equal([float(mixup["label"]), float(mixup["partner_label"])], [float(mixup["lambda"]), 1 - float(mixup["lambda"])])
            w, v = [values(files[r["file"]][1]["stem.weight"]) for r in (of[f"weights/{x}.safetensors"], dropout)]
            check(all(b == 0 or abs(b - 2 * a) < 1e-6 for a, b in zip(w, v)) and 0 < v.count(0) < len(v), "dropout by a half")
            w, v = [files[r["file"]][1] for r in (of[f"weights/{x}.safetensors"], scale)]
            equal([k for k in w if w[k] != v[k]], ["stem.weight"], "scale changes the first layer alone")
        equal(tar["checkpoints.csv"].decode().count(","), 15 * (len(rows) + 1))

    with case("the same request gives the same bytes, another seed does not; a permuted view classifies as its original does"):
        again, _ = archive(checkpoints=ckpts, views=VIEWS, seed=7)
        equal((again["sha256"], again["bytes"]), (made["sha256"], made["bytes"]))
        check(archive(checkpoints=ckpts, views=VIEWS, seed=8)[0]["sha256"] != made["sha256"], "the seed counts")
        logits = []
        for n, name in enumerate((f"weights/{a}.safetensors", f"weights/{a}.view-2.safetensors")):
            digest = hashlib.sha256(tar[name]).hexdigest()
            c.request("PUT", f"/v1/blobs/{digest}", tar[name], want=(200, 201))
            k = c.post("/v1/checkpoints", {"blob": digest}, want=(200, 201)).json["id"]
            c.post("/v1/deployments", {"name": f"view{n}", "source": {"checkpoint": k}}, want=(201, 202))
            d.wait_deployment(f"view{n}")
            top = c.post(f"/v1/deployments/view{n}/classify?k=10", noise_png(1), headers=PNG).json["results"][0]["top"]
            logits.append({t["index"]: t["p"] for t in top})
        check(all(abs(logits[0][k] - logits[1][k]) < 1e-5 for k in logits[0]), logits)

    with case("archives of jobs, the best ones, and what is refused"):
        k = [i["id"] for i in c.get(f"/v1/jobs/{ids[0]}/checkpoints").json["items"]]
        equal(archive(jobs=[ids[0]])[0]["checkpoints"], k[::-1])
        best, tar = archive(jobs=ids, which="best", checkpoints=[b], views=[{"type": "scale"}, {"type": "permute"}], per_checkpoint=3)
        equal((best["checkpoints"], best["files"]), ([b, a], 8))
        check(f"weights/{a}.view-3.safetensors" in tar, "the kinds in turn")
        for body, pointer in (({}, "/checkpoints"), ({"checkpoints": ["ckpt_0"]}, "/checkpoints/0"), ({"jobs": [ids[0], "job_0"]}, "/jobs/1"),
                              ({"sweeps": ["swp_0"]}, "/sweeps/0"), ({"jobs": ids, "which": "worst"}, "/which"), ({"checkpoints": [7]}, "/checkpoints/0"),
                              ({"checkpoints": ckpts, "views": [{"type": "rotate"}]}, "/views/0/type"), ({"checkpoints": ckpts, "views": ["noise"]}, "/views/0"),
                              ({"checkpoints": ckpts, "views": [{"type": "noise", "std": -1}]}, "/views/0/std"), ({"checkpoints": ckpts, "per_checkpoint": 2}, "/views"),
                              ({"checkpoints": ckpts, "views": [{"type": "noise", "p": 1}]}, "/views/0/p"), ({"checkpoints": [a], "views": [{"type": "mixup"}]}, "/views/0/with"),
                              ({"checkpoints": ckpts, "views": [{"type": "mixup", "lambda": [0.5, 0.2]}]}, "/views/0/lambda"), ({"checkpoints": ckpts, "seed": -1}, "/seed"),
                              ({"checkpoints": ckpts, "views": [{"type": "mixup", "align": "x"}]}, "/views/0/align")):
            equal(c.post("/v1/checkpoints:archive", body, want=422).json["errors"][0]["pointer"], pointer, str(body))
        m = c.post("/v1/checkpoints:archive", {"checkpoints": [a, other_network]}, want=202).json
        m = c.get(f"/v1/archives/{m['id']}?wait=60s").json
        equal((m["state"], m["pointer"]), ("failed", "/checkpoints/1"))
        check("another network" in m["message"] and other_network in m["message"] and a in m["message"], m["message"])
        c.get(f"/v1/archives/{m['id']}/file", want=409)
        m = c.post("/v1/checkpoints:archive", {"checkpoints": [a, bare["checkpoint"]]}, want=202).json
        check("never measured" in c.get(f"/v1/archives/{m['id']}?wait=60s").json["message"], m)
        for what in ("", "/file"):
            c.get(f"/v1/archives/archive_0{what}", want=404)
        c.delete("/v1/archives/archive_0", want=404)

    with case("the command writes the tar, and leaves nothing in the daemon"):
        before = len(c.get("/v1/archives").json["items"])
        with tempfile.TemporaryDirectory() as at:
            said = wasd("archive", a, ids[1], "--which", "best", "--view", "noise:std=0.1", "--view", "mixup:align=none", "--output", f"{at}/x.tar", "--url", f"http://127.0.0.1:{d.port}")
            check(said.startswith(f"{at}/x.tar: "), said)
            equal(len(tarfile.open(f"{at}/x.tar").getnames()), 6 + 2 + 1)
        equal(len(c.get("/v1/archives").json["items"]), before)
        check("/views/0/type" in wasd("archive", a, "--view", "rotate", "--url", f"http://127.0.0.1:{d.port}", rc=1), "it names the faulty one")
        wasd("archive", rc=2)

    with case("an archive that is deleted or whose process is killed leaves nothing; its checkpoints are held while it is made"):
        for end in ("delete", "kill"):
            m = making(d)
            c.delete(f"/v1/checkpoints/{a}", want=409)
            if end == "delete":
                c.delete(f"/v1/archives/{m}", want=204)
                c.get(f"/v1/archives/{m}", want=404)
                while glob.glob(f"{d.data}/exports/{m}*"):
                    pass
            else:
                for pid in d.engines("profile"):
                    os.kill(pid, signal.SIGKILL)
                check("ended early" in c.get(f"/v1/archives/{m}?wait=60s").json["message"], m)
            equal(glob.glob(f"{d.data}/exports/{m}*"), [])
        for i in c.get("/v1/archives").json["items"]:
            c.delete(f"/v1/archives/{i['id']}", want=204)
        equal((c.get("/v1/archives").json["items"], glob.glob(f"{d.data}/exports/archive_*")), ([], []))
        making(d)                                # goes down with the daemon, below

    with case("deleted in the middle: the process ends, nothing is stored"):
        before = [i["id"] for i in c.get("/v1/checkpoints").json["items"]]
        d.glyphs(name="its", train=100, test=20)
        gone = begin(d, checkpoints=ckpts, weights=[0.9, 0.1], path=POINTS)
        waits = begin(d, checkpoints=ckpts, weights=[0.8, 0.2])
        its = begin(d, checkpoints=ckpts, dataset="its")
        for where in ("/v1/datasets/its", "/v1/datasets/its/versions/1"):
            check(f"merge {its} needs it" in c.delete(where, want=409).json["detail"], where)
        running(d, gone)
        c.delete(f"/v1/merges/{its}", want=204)
        c.delete("/v1/datasets/its", want=204)
        c.delete(f"/v1/merges/{gone}", want=204)
        c.get(f"/v1/merges/{gone}", want=404)
        made = ended(d, waits)["checkpoint"]
        equal({i["id"] for i in c.get("/v1/checkpoints").json["items"]}, {*before, made})
        equal(os.path.exists(f"{d.data}/merges/{gone}.json"), False)

    with case("kill -9 of its process: it fails, and says so"):
        m = begin(d, checkpoints=ckpts, weights=[0.7, 0.3], path=POINTS)
        running(d, m)
        for pid in d.engines("profile"):
            os.kill(pid, signal.SIGKILL)
        check("ended early" in ended(d, m, want="failed")["message"], m)

    with case("kill -9 of the daemon: it begins anew, and gives the checkpoint that it would have given"):
        want = ended(d, begin(d, checkpoints=ckpts, weights=[0.6, 0.4]))["checkpoint"]
        m = begin(d, checkpoints=ckpts, weights=[0.6, 0.4], path=POINTS)
        waits = begin(d, checkpoints=ckpts, weights=[0.4, 0.6])
        running(d, m)
        d.kill()
        d.start()
        c = d.client
        equal(ended(d, m)["checkpoint"], want)
        equal((c.get("/v1/archives").json["items"], glob.glob(f"{d.data}/exports/archive_*")), ([], []), "archives end with the daemon")
        ended(d, waits)
        equal(ended(d, one["id"])["checkpoint"], one["checkpoint"], "a merge of the time before")

    with case("SIGTERM: the same"):
        m = begin(d, checkpoints=ckpts, weights=[0.6, 0.4], path=POINTS)
        running(d, m)
        equal(d.stop(), 0, "exit status")
        d.start()
        c = d.client
        equal(ended(d, m)["checkpoint"], want)
        equal(len(ended(d, m)["merge"]["path"]), POINTS)
        for i in c.get("/v1/merges").json["items"]:
            c.delete(f"/v1/merges/{i['id']}", want=204)
        equal((c.get("/v1/merges").json["items"], glob.glob(f"{d.data}/merges/*")), ([], []))
        c.get(f"/v1/checkpoints/{want}")

    with case("a quota: an archive that exceeds it is refused before anything is written, also one of a single checkpoint"):
        d.stop()
        d.args += ["--quota-mb", "1000"]
        d.start()
        used = d.client.get("/v1/storage").json["quota"]["used_bytes"]
        d.stop()
        d.args[-1] = str((used >> 20) + 2)
        d.start()
        c = d.client
        for some in (ckpts[:1], ckpts):
            m = c.post("/v1/checkpoints:archive", {"checkpoints": some, "views": [{"type": "noise"}], "per_checkpoint": 1000}, want=202).json["id"]
            m = ended(d, m, "failed", of="archives")
            check("more are needed" in m["message"] and not m["pointer"], m)
            check(c.get("/v1/storage").json["quota"]["used_bytes"] < used + (1 << 20), "nothing was written")
        m = c.post("/v1/checkpoints:archive", {"checkpoints": ckpts}, want=202).json["id"]
        ended(d, m, of="archives")
finish()
