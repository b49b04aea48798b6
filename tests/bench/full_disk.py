#!/usr/bin/python3
"""A full disk, not one byte free, in every phase of the daemon's work, on a tmpfs of its own; then room again. Each phase ends with what an
undisturbed daemon would have: completed jobs with the same losses, data sets, backups, deployments, ranked sweeps.

    tests/bench/full_disk.py [--rounds 1] [--seed 1]

Prints a line per phase. Needs unshare -Urm; the kernel's memory holds the disk (160 MiB)."""
import argparse, contextlib, os, random, sys, tempfile, time

if os.environ.get("WASD_SMALL_DISK") is None:
    os.execvpe("unshare", ["unshare", "-Urm", sys.executable, *sys.argv], dict(os.environ, WASD_SMALL_DISK="1"))

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import Client, Daemon, Disk, Events, case, check, directory, equal, exact, finish

SPEC = {"dataset": "glyphs", "model": {"arch": "lenet"}, "retry": {"max": 0},
        "train": {"epochs": 3, "batch": 32, "seed": 11, "optimizer": {"type": "adamw", "lr": 0.001}, "augment": ["flip"]}}
NAMES = "train_loss,val_loss_aom,val_loss_dom,test_loss_aom"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    rng, disk = random.Random(o.seed), Disk(directory(), 160)
    with Daemon(os.path.join(disk.path, "data"), args=["--low-water-mb", "16"]) as d:
        d.glyphs(train=400, test=100)
        first = d.submit(**SPEC)["id"]
        d.wait_job(first)
        reference = exact(d.series(first, NAMES))

        def full_for(seconds):
            """Keeps the disk full although others give room back, for so many seconds."""
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                disk.leave(0)
                time.sleep(0.05)

        def room():
            """Empties the disk and waits until the daemon has seen it."""
            disk.leave_all()
            while d.client.get("/v1/system").json["disk"]["low"]:
                time.sleep(0.1)

        def job_survives(job):
            j = d.client.get(f"/v1/jobs/{job}").json
            check(j["state"] not in ("failed", "cancelled"), j)
            if j["state"] == "paused":
                equal(j["reason"], "disk_low")
            d.client.get("/v1/jobs")
            room()
            d.wait_job(job)
            equal(exact(d.series(job, NAMES)), reference)
            return j["state"]

        for turn in range(o.rounds):
            for name, event in (("start", None), ("in an epoch", "job.progress"), ("at a checkpoint", "job.metric"), ("near the end", "job.checkpoint")):
                room()
                with case(f"{turn}: a job, {name}"):
                    job = d.submit(**SPEC)["id"]
                    if event:
                        with contextlib.closing(Events(d.port, f"/v1/jobs/{job}/events?last_event_id=0")) as events:
                            for _ in range(2 if name == "near the end" else 1):
                                events.until(lambda e: e.type == event)
                    time.sleep(rng.uniform(0, 0.3))
                    full_for(3)
                    print(f"# {job_survives(job)} when it was full")
            with case(f"{turn}: an upload"):
                disk.leave(20 << 20)
                reply = Client(d.port).request("PUT", "/v1/datasets/late", bytes(48 << 20))
                equal((reply.status, reply.json["code"]), (507, "disk_full"))
                room()
                equal([f for f in os.listdir(os.path.join(d.data, "staging"))], [])
            with case(f"{turn}: a scan"):
                d.client.post("/v1/datasets", {"name": f"scan{turn}", "synthetic": {"kind": "glyphs", "train": 6000, "test": 100, "seed": 1}})
                full_for(2)
                room()
                d.wait_dataset(f"scan{turn}")
                d.client.delete(f"/v1/datasets/scan{turn}")
            with case(f"{turn}: a deployment"):
                disk.leave(0)
                reply = d.client.request("POST", "/v1/deployments", {"name": f"live{turn}", "source": {"job": first, "follow": "best"}, "mode": "aom"})
                check(reply.status in (201, 202, 507), reply)
                room()
                if reply.status == 507:
                    d.client.post("/v1/deployments", {"name": f"live{turn}", "source": {"job": first, "follow": "best"}, "mode": "aom"})
                d.wait_deployment(f"live{turn}")
                print(f"# answered {reply.status} when it was full")
            with case(f"{turn}: a backup"):
                with tempfile.TemporaryDirectory(dir=disk.path) as there:
                    to = os.path.join(there, "b")
                    disk.leave(0)
                    equal(d.client.request("POST", "/v1/admin/backup?wait=60s", {"path": to}).status, 507)
                    equal(os.listdir(there), [])
                    room()
                    d.client.post("/v1/admin/backup?wait=60s", {"path": to}, want=201)
            with case(f"{turn}: a start after kill -9, full since before"):
                job = d.submit(**SPEC)["id"]
                with contextlib.closing(Events(d.port, f"/v1/jobs/{job}/events?last_event_id=0")) as events:
                    events.until(lambda e: e.type == "job.checkpoint")
                disk.leave(0)
                d.kill()
                disk.leave(0)
                d.start()
                disk.leave(0)
                time.sleep(1.5)
                job_survives(job)
            with case(f"{turn}: a sweep"):
                sweep = d.client.post("/v1/sweeps", {"template": SPEC, "space": {"/train/optimizer/lr": {"values": [0.001, 0.01]}}, "search": {"method": "grid"}}, want=201).json["id"]
                time.sleep(rng.uniform(0.2, 1))
                full_for(3)
                room()
                s = d.wait_sweep(sweep, "completed")
                equal({t["state"] for t in s["trials"]}, {"completed"})
                same, = [t for t in s["trials"] if t["values"] == {"/train/optimizer/lr": 0.001}]
                equal(exact(d.series(same["job"], NAMES)), reference)
    finish()


main()
