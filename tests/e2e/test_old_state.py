#!/usr/bin/python3
"""This build opens the data of earlier builds: a row for every folder tests/fixtures/*/golden.json (made by tests/fixtures/old_state.py).
The answers are the recorded ones, live models give the recorded logits, an interrupted job resumes with the recorded losses, and a
checkpoint's file can be imported and trained from."""
import glob, hashlib, json, os, shutil, tarfile

from lib import SANITIZED, TOP, Daemon, case, check, directory, equal, finish, noise_png

# Members that describe the daemon's process, not the stored data: since its start, of this machine, or of the restart.
OF_THE_PROCESS = {"requests", "failed", "in_flight", "conditions", "updated_at", "bytes"}    # of a deployment
# Tolerances: of a logit relative to the largest, and of a loss of the resumed job relative to itself. Another instruction set or library sums in
# another order, and a loss amplifies that over a few hundred steps. With the recorded ones, a job in fp32-strict resumes to the same bits, and
# logits depend only on which algorithms were measured to be fast.
NEAR = {True: {"logits": 1e-6, "losses": 0}, False: {"logits": 1e-4, "losses": 2e-3}}


def differences(old, new, at=""):
    """Where recorded members are missing or have another value. New members are ignored."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name, value in old.items():
            if name in OF_THE_PROCESS and "/deployments" in at or name == "last_seq":
                continue
            if name not in new:
                yield f"{at}/{name} is missing"
            else:
                yield from differences(value, new[name], f"{at}/{name}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new) and not (at.startswith("/v2/models/") and len(old) < len(new)):    # what a model takes may grow
            yield f"{at} has {len(new)} items, {len(old)} were recorded"
        for i, (a, b) in enumerate(zip(old, new)):
            yield from differences(a, b, f"{at}/{i}")
    elif old != new or type(old) is not type(new) and not {type(old), type(new)} <= {int, float}:
        yield f"{at} is {new!r}, recorded was {old!r}"


def close(got, want, relative, what):
    scale = max(abs(v) for v in want)
    check(len(got) == len(want) and max(abs(a - b) for a, b in zip(got, want)) <= relative * scale, f"{what}: {got}, recorded was {want}")


def logits(d, deployment, mode, image):
    return d.client.post(f"/v1/deployments/{deployment}/classify?logits=1" + (f"&mode={mode}" if mode else ""), noise_png(image), want=200, headers={"Content-Type": "image/png"}).json["results"][0]["logits"]


def same_machine(golden, attempt):
    """Whether this build computes with the same instructions and libraries as the recorded one."""
    recorded = golden["answers"][f"/v1/jobs/{golden['jobs']['finished']}"]["attempts"][0]["build"]
    return not SANITIZED and all(attempt["build"].get(member) == recorded[member] for member in ("isa", "coretype", "onednn", "openblas"))


def prepared(dataset):
    """The file of the synthetic set, made again by this build, and its digest."""
    with Daemon() as d:
        made = d.glyphs(**dataset)
        path = os.path.join(directory(), "set.wds")
        shutil.copy(glob.glob(os.path.join(d.data, "datasets/*/*"))[0], path)
    return path, made["digest"]


def opened(folder):
    with open(os.path.join(folder, "golden.json")) as f:
        golden = json.load(f)
    data = os.path.join(directory(), "data")
    with tarfile.open(os.path.join(folder, "state.tar.gz")) as tar:
        tar.extractall(data)
    row, = golden["answers"]["/v1/datasets"]["items"]
    name = os.path.basename(folder)
    with case(f"{name}: the data set is made again to the same bytes"):
        path, digest = prepared(golden["dataset"])
        equal(digest, row["digest"])
    os.makedirs(os.path.dirname(os.path.join(data, golden["file"])))
    shutil.copy(path, os.path.join(data, golden["file"]))
    return name, golden, data


def old_state(folder):
    name, golden, data = opened(folder)
    jobs, best, near = golden["jobs"], golden["best"], NEAR[False]
    with Daemon(data) as d:
        c = d.client
        with case(f"{name}: an interrupted job resumes and completes"):
            job = d.wait_job(jobs["interrupted"])
            near = NEAR[same_machine(golden, job["attempts"][-1])]
            check(len(job["attempts"]) == 2 and job["attempts"][-1]["resume_from"], "the second attempt goes on from the checkpoint")
            series = d.series(jobs["interrupted"])
            for metric, points in golden["resumed"].items():
                equal(sorted(series[metric]), sorted(map(int, points)), f"epochs of {metric}")
                close([series[metric][int(e)] for e in points], list(points.values()), near["losses"], metric)

        with case(f"{name}: live models give the recorded logits in every mode"):
            listed = c.get(f"/v1/checkpoints/{best}/modes").json["items"]
            equal([(m["name"], m["kind"], m["state"]) for m in listed], [("aom", "plain", "ready"), ("dom", "draw", "ready"), ("dom:light", "draw", "ready")])
            check(all(m["macs"] > 0 and m["val_acc"] is not None for m in listed), listed)
            for deployment, modes in golden["logits"].items():
                equal(d.wait_deployment(deployment)["mode"], golden["answers"][f"/v1/deployments/{deployment}"]["mode"])
                for mode, want in modes.items():
                    close(logits(d, deployment, mode, golden["image"]), want, near["logits"], f"{deployment}, {mode}")

        with case(f"{name}: every answer equals the recorded one"):
            wrong = []
            for path, want in golden["answers"].items():
                reply = c.get(path)
                got = reply.json if "json" in reply.headers["Content-Type"] else reply.body.decode().splitlines()
                if path.startswith("/v1/jobs?"):                       # the interrupted job came after the answers were recorded
                    got["items"] = [j for j in got["items"] if j["id"] != jobs["interrupted"]]
                wrong += differences(want, got, path)
            equal(wrong, [])

        with case(f"{name}: the file of a checkpoint is unchanged and can be imported, served and trained from"):
            with open(os.path.join(folder, "model.safetensors"), "rb") as f:
                model = f.read()
            equal(c.get(f"/v1/checkpoints/{best}/file?format=wasd").body, model)
            for mode in ("aom", "dom", "dom:light"):
                check(len(c.get(f"/v1/checkpoints/{best}/file?format=onnx&mode={mode}").body) > 1000, mode)
            sha256 = hashlib.sha256(model).hexdigest()
            c.put(f"/v1/blobs/{sha256}", model)
            c.post("/v1/deployments", {"name": "imported", "source": {"blob": sha256}})
            d.wait_deployment("imported")
            for mode in ("aom", "dom"):
                close(logits(d, "imported", mode, golden["image"]), golden["logits"]["live"][mode], near["logits"], f"imported, {mode}")
            spec = {member: golden["answers"][f"/v1/jobs/{jobs['finished']}"][member] for member in ("dataset", "model", "was", "train")}
            for source in ({"blob": sha256}, c.get(f"/v1/jobs/{jobs['cancelled']}/checkpoints").json["items"][0]["id"]):
                d.wait_job(d.submit(**{**spec, "train": {**spec["train"], "epochs": 1}, "init_from": source})["id"])

        with case(f"{name}: modes are switched back and forth"):
            for mode in ("dom:light", "aom", "dom"):
                c.put("/v1/deployments/live/mode", {"mode": mode}, want=200)
                close(logits(d, "live", None, golden["image"]), golden["logits"]["live"][mode], near["logits"], mode)
            c.post("/v1/deployments/live/mode:rollback", {}, want=200)
            equal(c.get("/v1/deployments/live").json["mode"], "aom")
            d.stop()
            d.start()
            equal(d.wait_deployment("live")["mode"], "aom")


rows = sorted(os.path.dirname(path) for path in glob.glob(os.path.join(TOP, "tests/fixtures/*/golden.json")))
check(rows, "there is a fixture")
for row in rows:
    old_state(row)
finish()
