#!/usr/bin/python3
"""A backup made while a job trains, by HTTP and by `wasd backup`, restored by `wasd restore`: the second daemon has the same jobs, data sets and
deployments, classifies alike, and finishes the job."""
import hashlib, json, os, subprocess

from lib import BUILD, PATIENCE, Daemon, case, check, directory, equal, finish, noise_png

SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all", "transforms": [{"type": "translate", "x": 0.3, "y": 0.3}]},
        "train": {"epochs": 2, "batch": 32, "seed": 3, "optimizer": {"type": "adamw", "lr": 0.001}}}


def wasd(*args, rc=0, cwd=None):
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=120 * PATIENCE, cwd=cwd)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout if rc == 0 else p.stderr


here = directory()
old, new = os.path.join(here, "old"), os.path.join(here, "new")
picture = {"Content-Type": "image/png"}
with Daemon(old) as d:
    c = d.client
    url = f"127.0.0.1:{d.port}"
    d.glyphs(train=200, test=50)
    job = d.wait_job(d.submit(**SPEC)["id"])["id"]
    d.deploy("reader", job)
    second = d.submit(**dict(SPEC, train=dict(SPEC["train"], epochs=12, seed=4)))["id"]
    said = c.post("/v1/deployments/reader/classify?logits=1", noise_png(1), headers=picture).json["results"]

    with case("backup: refused paths change nothing"):
        equal(c.get("/v1/admin/backup").json["state"], "none")
        for path, status, pointer in (("relative", 422, "/path"), (here, 409, "/path"), (old + "/datasets/b", 422, "/path"), (here + "/../b", 422, "/path"), (5, 422, "/path")):
            refused = c.post("/v1/admin/backup", {"path": path}, want=status).json
            equal(refused["errors"][0]["pointer"], pointer, path)
        equal(os.listdir(here), ["old"])

    with case("backup: by HTTP into the data directory, and by `wasd backup` beside it while a job trains"):
        first = c.post("/v1/admin/backup?wait=60s", want=201).json
        equal((first["state"], os.path.dirname(first["path"])), ("done", old + "/backups"))
        equal({k: first[k] for k in ("files", "state")}, {k: c.get("/v1/admin/backup").json[k] for k in ("files", "state")})
        out = wasd("backup", "one", "--url", url, cwd=here)
        check(out.startswith(f"{here}/one: 3 files, ") and out.endswith("checked\n"), out)
        manifest = json.load(open(here + "/one/manifest.json"))
        equal({f["path"] for f in manifest["files"]} - {"wasd.db", "ckpt.db"}, {"datasets/glyphs/1.wds"})
        for f in manifest["files"]:
            equal(os.path.getsize(f"{here}/one/{f['path']}"), f["bytes"], f["path"])
        check("exists" in wasd("backup", here + "/one", "--url", url, rc=1), "a path that exists")
        done = [a for a in c.get("/v1/audit?object=backup").json["items"]]
        equal([a["after"]["path"] for a in done], [here + "/one", first["path"]])

    with case("restore: a new directory, whole; not into one that holds something"):
        check("is not empty" in wasd("restore", here + "/one", "--data", old, rc=1), "a data directory in use")
        equal(json.loads(wasd("restore", here + "/one", "--data", new, "--json"))["files"], 3)
        check("not a whole backup" in wasd("restore", new, "--data", here + "/b", rc=1), "a directory without a manifest")
        wasd("restore", here + "/one", rc=2)
        equal(os.path.exists(here + "/b"), False)
    jobs = c.get("/v1/jobs").json["items"]

    with case("storage: bytes by kind and by job; unused room is told, then given back"):
        u = c.get("/v1/storage?top=1").json
        item = c.get("/v1/datasets/glyphs").json
        equal(u["kinds"]["datasets"], {"versions": 1, "bytes": os.path.getsize(old + "/datasets/glyphs/1.wds")}, item)
        db = u["databases"]["ckpt.db"]
        check(db["bytes"] + db["log_bytes"] > u["kinds"]["checkpoints"]["bytes"] >= u["jobs"][0]["bytes"] > 500000, u)
        equal(len(u["jobs"]), 1)
        check(u["kinds"]["backups"]["bytes"] == sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(first["path"]) for f in files), u)
        blob = b"a blob that no request uses"
        c.put(f"/v1/blobs/{hashlib.sha256(blob).hexdigest()}", blob)
        for dry in (1, 0):
            g = c.post(f"/v1/storage:gc?blob_age_s=0&dry_run={dry}").json
            equal((g["dry_run"], g["blobs"]), (bool(dry), {"files": 1, "bytes": len(blob)}))
            equal(len(os.listdir(old + "/blobs")), dry)
        c.post("/v1/storage:gc?blob_age_s=-1", want=400)

    with case("fsck: not beside a daemon; a whole backup; a changed pixel and a changed weight are found"):
        check("in use by a daemon" in wasd("fsck", "--data", old, rc=1), "beside a daemon")
        whole = json.loads(wasd("fsck", "--data", here + "/one", "--json"))
        equal((whole["faults"], whole["leftovers"], whole["datasets"], whole["checkpoints"] >= 1, whole["found"]), (0, 0, 1, True, []))
        wasd("restore", here + "/one", "--data", here + "/hurt")
        with open(here + "/hurt/datasets/glyphs/1.wds", "r+b") as f:
            f.seek(100000)
            byte = f.read(1)[0]
            f.seek(100000)
            f.write(bytes([byte ^ 1]))
        p = subprocess.run([os.path.join(BUILD, "wasd"), "fsck", "--data", here + "/hurt"], capture_output=True, text=True)
        equal(p.returncode, 1, p.stderr)
        check("FAULT    dataset/glyphs/1: its labels and pixels have SHA-256" in p.stdout and "1 faults, 0 leftovers" in p.stdout, p.stdout)
        check("not a directory" in wasd("fsck", "--data", here + "/none", rc=1), "no such directory")
        check("is missing" in wasd("fsck", "--data", BUILD, rc=1), "a directory without databases")

with Daemon(new) as d:
    c = d.client
    with case("restore: the second daemon has everything, answers alike, and continues the job"):
        d.wait_deployment("reader")
        equal(c.post("/v1/deployments/reader/classify?logits=1", noise_png(1), headers=picture).json["results"], said)
        equal([j["id"] for j in c.get("/v1/jobs").json["items"]], [j["id"] for j in jobs])
        equal(c.get("/v1/datasets/glyphs").json["digest"], next(j["dataset_digest"] for j in jobs if j["id"] == job))
        equal(d.wait_job(second)["progress"]["epoch"], 12)
finish()
