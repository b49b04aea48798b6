#!/usr/bin/python3
"""A disk that fills up, on a small tmpfs: running jobs pause with the reason, new work is refused with the numbers, reading and deleting go
on, and with room again everything finishes with the same losses. Then a quota. tests/bench/full_disk.py goes through every phase."""
import contextlib, json, os, shutil, signal, subprocess, sys, time

if os.environ.get("WASD_SMALL_DISK") is None:      # again in a mount namespace of its own
    if subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        print("skip full disk: mounting a tmpfs is not allowed here")
        sys.exit(0)
    os.execvpe("unshare", ["unshare", "-Urm", sys.executable, *sys.argv], dict(os.environ, WASD_SMALL_DISK="1"))

from lib import BUILD, PATIENCE, Daemon, Disk, Events, case, check, directory, equal, exact, finish

SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "retry": {"max": 0},
        "train": {"epochs": 3, "batch": 32, "seed": 11, "optimizer": {"type": "adamw", "lr": 0.001}, "augment": ["flip"]}}
LONG = {**SPEC, "train": {**SPEC["train"], "epochs": 100000}}      # does not end by itself before it is stopped
NAMES = "train_loss,val_loss_aom,val_loss_dom,test_loss_aom"
MIB = 1 << 20


def losses(d, job):
    return exact(d.series(job, NAMES))


def first_losses(d, job, epochs):
    """Of a job that is ended when it has trained so many epochs."""
    with contextlib.closing(Events(d.port, f"/v1/jobs/{job}/events?last_event_id=0")) as events:
        events.until(lambda e: e.type == "job.checkpoint" and e.data["epoch"] >= epochs, what=f"epoch {epochs}")
    d.client.post(f"/v1/jobs/{job}:cancel", {"mode": "kill"})
    d.wait_job(job, "cancelled")
    return {name: {e: v for e, v in points.items() if e <= epochs} for name, points in losses(d, job).items()}


@contextlib.contextmanager
def held(d, job):
    """The job's engine, stopped after its first checkpoint; yields its events."""
    events = Events(d.port, f"/v1/jobs/{job}/events?last_event_id=0")
    events.until(lambda e: e.type == "job.checkpoint", what="a checkpoint")
    pid, = d.engines("train")
    os.kill(pid, signal.SIGSTOP)
    yield events
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def state(events, want):
    return events.until(lambda e: e.type == "job.state" and e.data["to"] == want, what=f"state {want}")


disk = Disk(directory(), 160)
args = ["--low-water-mb", "16"]
with Daemon(os.path.join(disk.path, "data"), args=args) as d:
    c, system = d.client, Events(d.port, "/v1/events?topics=system")
    d.glyphs(train=400, test=100)
    first = d.submit(**SPEC)["id"]
    d.wait_job(first)
    reference = losses(d, first)
    other = d.submit(**{**SPEC, "train": {"epochs": 1}})["id"]
    d.wait_job(other)

    def turned(want):
        return system.until(lambda e: e.type == "system.disk" and e.data["state"] == want, what=f"disk {want}").data

    with case("below the low-water mark a job stores a checkpoint and pauses; with room again it goes on"):
        job = d.submit(**LONG)["id"]
        waiting = d.submit(**SPEC)["id"]
        with held(d, job) as events:
            disk.leave(12 * MIB)
            equal(turned("low")["reason"], "disk_low")
            state(events, "pausing")
        state(events, "paused")
        j = c.get(f"/v1/jobs/{job}").json
        equal((j["state"], j["reason"]), ("paused", "disk_low"))
        check("MiB are free" in j["message"], j["message"])
        equal([a["outcome"] for a in j["attempts"]], ["paused"])
        equal(c.get(f"/v1/jobs/{waiting}").json["queue"]["reason"], "disk_low")
        why = c.post("/v1/jobs", SPEC, want=507)
        equal((why.json["code"], why.headers["Retry-After"]), ("disk_full", "60"))
        equal(c.put("/v1/datasets/more", b"x" * 1000, want=507).json["code"], "disk_full")
        now = c.get("/v1/system").json["disk"]
        equal((now["low"], now["reason"]), (True, "disk_low"))
        check(b"\nwasd_disk_low 1\n" in c.get("/metrics").body, "wasd_disk_low is 1")
        top = subprocess.run([os.path.join(BUILD, "wasd"), "top", "--once", "--url", f"http://127.0.0.1:{d.port}"], capture_output=True, text=True)
        check("disk_low: " in top.stdout, top.stdout)
        c.post(f"/v1/jobs/{job}:cancel")
        disk.leave_all()
        turned("ok")
        d.wait_job(waiting)
        equal(losses(d, waiting), reference)
        check(b"\nwasd_disk_low 0\n" in c.get("/metrics").body, "wasd_disk_low is 0")

    with case("not one byte is free: the job pauses, a delete works, the rest is repeated with the same losses"):
        job = d.submit(**LONG)["id"]
        with held(d, job) as events:
            disk.leave(0)
        state(events, "paused")
        equal(c.get(f"/v1/jobs/{job}").json["reason"], "disk_low")
        c.delete(f"/v1/jobs/{other}", want=204)
        disk.leave(0)
        c.get(f"/v1/jobs/{first}/metrics")

    with case("kill -9 and a start on the full disk: the job is still paused, and goes on when there is room"):
        d.kill()
        disk.leave(0)
        d.start()
        c = d.client
        equal([c.get(f"/v1/jobs/{job}").json[k] for k in ("state", "reason")], ["paused", "disk_low"])
        check(c.get("/v1/system").json["disk"]["low"], "the disk is low")
        epochs = max(d.series(job, "train_loss")["train_loss"]) + 2
        disk.leave_all()
        got = first_losses(d, job, epochs)
        equal(len(got["train_loss"]), epochs)
        equal(got, first_losses(d, d.submit(**LONG)["id"], epochs))

    with case("a data set that finds no room while it is read waits, and is ready later"):
        disk.leave(24 * MIB)
        c.post("/v1/datasets", {"name": "big", "synthetic": {"kind": "glyphs", "train": 8000, "test": 100, "seed": 1}})
        end = time.monotonic() + 60 * PATIENCE
        while "waits for room" not in json.dumps(c.get("/v1/datasets/big?wait=1s").json):
            check(time.monotonic() < end, "big never waited for room")
        disk.leave(17 * MIB)
        now = c.get("/v1/datasets/big").json
        equal(now["state"], "scanning")
        disk.leave_all()
        d.wait_dataset("big")
        c.delete("/v1/datasets/big")

    with case("a backup without room is refused, and leaves nothing"):
        disk.leave(18 * MIB)
        equal(c.post("/v1/admin/backup?wait=60s", {}, want=507).json["code"], "disk_full")
        equal(os.listdir(os.path.join(d.data, "backups")) if os.path.exists(os.path.join(d.data, "backups")) else [], [])
        disk.leave_all()

shutil.rmtree(d.data)
with Daemon(os.path.join(disk.path, "limited"), args=args) as d:
    d.glyphs(train=400, test=100)
    d.glyphs("spare", train=2000)

    with case("a quota: an upload that exceeds it is refused; a job pauses at its checkpoint and goes on when something is deleted"):
        d.stop()
        d.args += ["--quota-mb", "1000"]
        d.start()
        used = d.client.get("/v1/storage").json["quota"]["used_bytes"]
        d.stop()
        d.args[-1] = str(used // MIB + 1)
        d.start()
        c = d.client
        equal(c.get("/v1/storage").json["quota"]["bytes"], (used // MIB + 1) * MIB)
        why = c.put("/v1/datasets/more", bytes(4 * MIB), want=507)
        equal((why.json["code"], why.headers["Retry-After"]), ("quota_full", "60"))
        check(f"of the {used // MIB + 1} MiB of quota_mb are used" in why.json["detail"], why)
        job = d.submit(**SPEC)["id"]
        with contextlib.closing(Events(d.port, f"/v1/jobs/{job}/events?last_event_id=0")) as events:
            state(events, "paused")
        equal(c.get(f"/v1/jobs/{job}").json["reason"], "quota_full")
        now = c.get("/v1/storage").json["quota"]
        check(now["used_bytes"] <= now["bytes"], now)
        equal(c.get("/v1/system").json["disk"]["reason"], "quota_full")
        c.delete("/v1/datasets/spare", want=204)
        d.wait_job(job)
        equal(losses(d, job), reference)

finish()
