#!/usr/bin/python3
"""Two builds of wasd side by side on this machine: what a change costs or gains.

    tests/bench/before_after.py BEFORE AFTER [--networks resnet18,mobilenetv2] [--precisions fp32,bf16] [--rounds 5]

BEFORE and AFTER are the build folders with wasd-engine. For every network, precision and benchmark (a training step and inference), the two run
in turn, in every round the other one first, each in a process of its own with one tuning file for both, so that they take the same algorithms. The
table shows medians of milliseconds per step over the rounds, and AFTER's as a share of BEFORE's: above 1 is slower. Beside it stand the smallest and
the largest ratio of a single round, which say how far the machine's other load went. Processes get real-time priority where that is permitted."""
import argparse, itertools, json, os, shutil, statistics, subprocess, sys, tempfile


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("before")
    p.add_argument("after")
    p.add_argument("--networks", default="resnet18,mobilenetv2")
    p.add_argument("--precisions", default="fp32,bf16")
    p.add_argument("--benches", default="train,infer")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch", type=int, default=128, help="of a training step")
    p.add_argument("--infer-batch", type=int, default=1)
    p.add_argument("--steps", type=int, default=5, help="timed training steps; inference runs ten times as many")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--tuning", help="file that keeps the measured choice of algorithms; default: a new one for this run")
    p.add_argument("--json", help="file that gets every sample")
    a = p.parse_args()
    for build in (a.before, a.after):
        if not os.access(os.path.join(build, "wasd-engine"), os.X_OK):
            p.error(f"{build}: there is no wasd-engine")
    return a


def urgent():
    """The words before a command that give it real-time priority, where this process may."""
    words = ["chrt", "-f", "5"]
    permitted = shutil.which("chrt") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if permitted else []


def measure(a, prefix, build, row, tuning):
    """Milliseconds per step, or the reason why there are none."""
    bench, network, precision = row
    train = bench == "train"
    command = [*prefix, os.path.join(build, "wasd-engine"), "bench", bench, "--arch", network, "--precision", precision, "--json", "--threads", str(a.threads),
               "--batch", str(a.batch if train else a.infer_batch), "--steps", str(a.steps if train else 10 * a.steps), "--tuning", tuning]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1]
    return json.loads(done.stdout.splitlines()[-1])["ms_per_step"]["total"]


def rounds(a, prefix, row, tuning):
    """[(before, after), ...] in milliseconds; a string: why this row cannot run."""
    found = []
    for i in range(-1, a.rounds):                 # the first one only fills the tuning file
        ms = [None, None]
        for k in (0, 1) if i % 2 == 0 else (1, 0):
            ms[k] = measure(a, prefix, (a.before, a.after)[k], row, tuning)
            if isinstance(ms[k], str):
                return f"{('before', 'after')[k]}: {ms[k]}"
        if i >= 0:
            found.append(tuple(ms))
    return found


def main():
    a = options()
    prefix = urgent()
    print(f"before: {a.before}; after: {a.after}; {a.rounds} rounds; {'real-time priority' if prefix else 'ordinary priority'}; load {os.getloadavg()[0]:.2f}")
    print(f"{'':34}{'before':>10}{'after':>10}{'ratio':>8}   of single rounds")
    samples = {}
    with tempfile.TemporaryDirectory() as folder:
        tuning = a.tuning or os.path.join(folder, "tuning.tsv")
        for row in itertools.product(a.benches.split(","), a.networks.split(","), a.precisions.split(",")):
            name, found = " ".join(row), rounds(a, prefix, row, tuning)
            samples[name] = found
            if isinstance(found, str):
                print(f"{name:34}{found}", flush=True)
                continue
            before, after = (statistics.median(column) for column in zip(*found))
            ratios = [y / x for x, y in found]
            print(f"{name:34}{before:7.2f} ms{after:7.2f} ms{after / before:8.3f}   {min(ratios):.3f} to {max(ratios):.3f}", flush=True)
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"before": a.before, "after": a.after, "rounds": a.rounds, "samples": samples}, f, indent=1)
    return any(isinstance(s, str) for s in samples.values())


if __name__ == "__main__":
    sys.exit(main())
