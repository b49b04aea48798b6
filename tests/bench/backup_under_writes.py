#!/usr/bin/python3
"""Backups while the daemon gets about --rate writes a second: each is restored, checked by wasd fsck, and compared with what had been
acknowledged before it began. A write gives a job a new note, so the restored jobs say which writes are in the backup.

    tests/bench/backup_under_writes.py [--backups 50] [--rate 500]"""
import argparse, os, shutil, sqlite3, subprocess, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import BUILD, Client, Daemon, check, directory, equal

WRITERS = 8


class Writer(threading.Thread):
    """Numbers the notes of its job; `acknowledged` is the last number that the daemon has confirmed."""

    def __init__(self, port, job, interval):
        super().__init__(daemon=True)
        self.client, self.job, self.interval, self.acknowledged, self.on = Client(port), job, interval, 0, True
        self.start()

    def run(self):
        due = time.monotonic()
        while self.on:
            self.client.request("PATCH", f"/v1/jobs/{self.job}", {"note": str(self.acknowledged + 1)}, want=200)
            self.acknowledged += 1
            due += self.interval
            time.sleep(max(0, due - time.monotonic()))


def notes(data):
    db = sqlite3.connect(os.path.join(data, "wasd.db"))
    rows = dict(db.execute("SELECT id, note FROM jobs"))
    db.close()
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--backups", type=int, default=50)
    p.add_argument("--rate", type=float, default=500)
    o = p.parse_args()
    top, late = directory(), 0
    with Daemon() as d:
        d.glyphs(train=200, test=50)
        trained = d.submit(dataset="glyphs", model={"arch": "lenet"}, train={"epochs": 1})["id"]
        d.wait_job(trained)
        d.client.request("PATCH", "/v1/queues/default", {"paused": True}, want=200)
        jobs = [d.submit(dataset="glyphs", model={"arch": "lenet"})["id"] for _ in range(WRITERS)]
        writers, began = [Writer(d.port, job, WRITERS / o.rate) for job in jobs], time.monotonic()
        for n in range(o.backups):
            to, restored = os.path.join(top, f"b{n}"), os.path.join(top, f"r{n}")
            before = {w.job: w.acknowledged for w in writers}
            d.client.post("/v1/admin/backup?wait=60s", {"path": to}, want=201)
            late += sum(w.acknowledged - before[w.job] for w in writers)
            for words in (["restore", to, "--data", restored], ["fsck", "--data", restored]):
                done = subprocess.run([os.path.join(BUILD, "wasd"), *words], capture_output=True, text=True)
                equal(done.returncode, 0, f"backup {n}: {done.stdout}{done.stderr}")
            has = notes(restored)
            for job, number in before.items():
                check(int(has[job] or 0) >= number, f"backup {n}: job {job} has write {has[job] or 0}, {number} was acknowledged before the backup")
            shutil.rmtree(to)
            shutil.rmtree(restored)
        for w in writers:
            w.on = False
        for w in writers:
            w.join()
        seconds, writes = time.monotonic() - began, sum(w.acknowledged for w in writers)
        print(f"{o.backups} backups in {seconds:.0f} s, {writes / seconds:.0f} writes a second, {late} of them during a backup: each restored whole, with all that was acknowledged before it began")


main()
