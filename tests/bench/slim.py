#!/usr/bin/python3
"""Time per image of a network without its dead channels (mode slim) against the same network with them (mode aom).

Half of the inner filters are dead. At batch 1 and 64 the time is to fall by at least 0.8 of what the multiply-adds fall by.
Dense and slim take turns in processes of their own; the ratio of each round and the median of the rounds are printed. Runs only mean something
on a machine without other work.

    make && tests/bench/slim.py [--arch resnet18] [--dead 50] [--rounds 7] [--threads N]
"""
import argparse, json, os, statistics, subprocess, sys, tempfile

ENGINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "wasd-engine")

p = argparse.ArgumentParser()
p.add_argument("--arch", default="resnet18")
p.add_argument("--dead", default="50", help="percent of the filters of each inner layer")
p.add_argument("--rounds", type=int, default=7)
p.add_argument("--threads", default="0", help="0: every core")
p.add_argument("--batches", default="1,64")
p.add_argument("--precision", default="fp32")
p.add_argument("--steps", type=int, default=0, help="timed steps per run; default 200 at batch 1, 20 at 64")
o = p.parse_args()


def run(mode, batch, tuning):
    steps = o.steps or (200 if batch < 8 else 20)
    out = subprocess.run([ENGINE, "bench", "infer", "--arch", o.arch, "--was", "off", "--mode", mode, "--dead", o.dead, "--batch", str(batch), "--threads", o.threads,
                          "--precision", o.precision, "--steps", str(steps), "--warmup", "5", "--tuning", tuning, "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


ok = True
with tempfile.TemporaryDirectory() as here:
    tuning = os.path.join(here, "tuning")
    for batch in (int(b) for b in o.batches.split(",")):
        ratios, times = [], {"aom": [], "slim": []}
        for mode in times:
            run(mode, batch, tuning)                                     # chooses the kernels
        for _ in range(o.rounds):
            now = {mode: run(mode, batch, tuning) for mode in times}
            for mode in times:
                times[mode].append(now[mode]["ms_per_step"]["total"] / batch)
            ratios.append(times["slim"][-1] / times["aom"][-1])
        macs = now["slim"]["macs_per_image"] / now["aom"]["macs_per_image"]
        ratio = statistics.median(ratios)
        share = (1 - ratio) / (1 - macs) if macs < 1 else float("nan")
        ok &= share >= 0.8
        print(f"{o.arch}, {o.dead} % dead, batch {batch}: multiply-adds {now['aom']['macs_per_image'] / 1e6:.1f} M -> {now['slim']['macs_per_image'] / 1e6:.1f} M "
              f"(-{100 * (1 - macs):.1f} %), ms per image {statistics.median(times['aom']):.3f} -> {statistics.median(times['slim']):.3f} (-{100 * (1 - ratio):.1f} %; "
              f"rounds {min(ratios):.3f} to {max(ratios):.3f}), {share:.2f} of the multiply-adds' fall {'ok' if share >= 0.8 else 'TOO LITTLE'}", flush=True)
sys.exit(not ok)
