#!/usr/bin/python3
"""Does the model check (tests/server/lifecycle.c) find bugs? Each of five is put into a copy of the tree, which is built and checked:
tests/bench/seeded_bugs.py [OPERATIONS]. Ends with 1 if one of them is not found, or the check fails without any."""
import os, re, shutil, subprocess, sys, tempfile, time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUGS = [
    ("the order of the queue ignores priorities", "storage/jobs.c", "WHERE n<=?1) ORDER BY priority DESC, id", "WHERE n<=?1) ORDER BY id"),
    ("a limit of a queue lets one more run", "server/jobs/plan.c", "q->running < q->max_running", "q->running <= q->max_running"),
    ("a job waits for ever for one that was cancelled", "storage/job_after.c", "AND p.state IN ('failed','cancelled') LIMIT 1", "AND p.state IN ('failed') LIMIT 1"),
    ("a deadline spares paused jobs", "storage/job_limits.c", '#define TOO_LATE "j.deadline<=?1', '#define TOO_LATE "j.state<>\'paused\' AND j.deadline<=?1'),
    ("a job that must not be displaced is", "server/jobs/scheduler.c", 'cJSON_IsFalse(wasd_json_get(a->spec, "preemptible"))', 'cJSON_IsNull(wasd_json_get(a->spec, "preemptible"))'),
]


def check(tree, operations, **more):
    subprocess.run(["make", "-s", "-j2", "build/tests/server/lifecycle"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    start = time.monotonic()
    done = subprocess.run(["build/tests/server/lifecycle"], cwd=tree, capture_output=True, text=True, env={**os.environ, "WASD_OPERATIONS": str(operations), **more})
    said = re.search(r"operation (\d+) \((\w+)\): (.*)", done.stdout)
    return done.returncode, said.group(0) if said else "", time.monotonic() - start


def main():
    operations, missed = int(sys.argv[1]) if len(sys.argv) > 1 else 2000, 0
    with tempfile.TemporaryDirectory() as where:
        tree = os.path.join(where, "tree")
        shutil.copytree(TOP, tree, symlinks=True, ignore=lambda folder, names: [n for n in names if n == ".git"])
        code, said, s = check(tree, operations)
        print(f"no bug: {'found nothing' if not code else said or 'failed'}, {s:.0f} s", flush=True)
        missed += code != 0
        for what, path, old, new in BUGS:
            path = os.path.join(tree, path)
            with open(path) as f:
                source = f.read()
            if source.count(old) != 1:
                sys.exit(f"{what}: its place in {path} is not there any more")
            with open(path, "w") as f:
                f.write(source.replace(old, new))
            code, said, s = check(tree, operations, WASD_PATIENCE_S="5")        # what does not come is not waited for as long
            print(f"{what}: {said if code else 'NOT FOUND'}, {s:.0f} s", flush=True)
            missed += not code
            with open(path, "w") as f:
                f.write(source)
    sys.exit(missed > 0)


main()
