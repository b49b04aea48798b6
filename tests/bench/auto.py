#!/usr/bin/python3
"""The mode auto under a step overload. A ResNet-18 is served with batching and a bounded queue; the rate at which it saturates is measured in AOM
and in the cheap mode, a profile whose draw shifts every kernel along both axes, so that each loses a row and a column. Then requests arrive at 0.4 of AOM's saturation, for --step seconds at a
multiple of it, and at 0.4 again until auto has gone back. Every second the mode in force and the queue's p99 of that second are printed.

At 3 times AOM's saturation no mode carries the load, and the queue's bound refuses the rest; the target lies between the waits of a full
queue in both modes, which are measured first. Close to saturation (--times 1.25) the cheap mode can carry it alone.

The network is kept in --state, so a second run begins at once:
  tests/bench/auto.py --state auto                         # about four minutes on two cores with AVX-512
"""
import argparse, json, math, os, subprocess, time

from kept import Kept, add_arguments, say, work
from lib import BUILD

QUEUE, BATCH = 128, 32


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--times", type=float, nargs="+", default=[1.25, 3], help="multiples of AOM's saturation")
    p.add_argument("--step", type=int, default=20, help="seconds of overload")
    p.add_argument("--clients", type=int, default=32, help="connections that measure the saturation")
    return p.parse_args()


def bench(d, *words):
    """wasd bench serve as a process that prints one JSON object."""
    return subprocess.Popen([os.path.join(BUILD, "wasd"), "bench", "serve", "--model", "auto", "--json", "--warmup", "0", "--url", f"http://127.0.0.1:{d.port}",
                             *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def saturation(d, a, mode):
    for n in range(1, BATCH + 1):                      # a plan is made, and its kernels are measured, when a batch size first occurs
        bench(d, "--clients", 1, "--batch", n, "--seconds", 0.2, "--mode", mode).communicate()
    report = json.loads(bench(d, "--clients", a.clients, "--seconds", 4, "--mode", mode).communicate()[0])
    return report["images_per_s"]


def ready(d, a, end):
    spec = {"name": "auto", "dataset": "auto-glyphs", "model": {"arch": "resnet18"}, "was": {"alpha": "fixed"},
            "train": {"epochs": 1, "batch": 50, "seed": 1}}
    if d.client.get("/v1/datasets/auto-glyphs", want=(200, 404)).status == 404:
        d.glyphs("auto-glyphs", train=200, test=50)
    if work(d, [spec], end):
        raise SystemExit("the training failed")
    job = next(j for j in d.client.get("/v1/jobs?limit=500").json["items"] if j["name"] == "auto" and j["state"] == "completed")
    if d.client.get("/v1/deployments/auto", want=(200, 404)).status == 404:
        d.client.post("/v1/deployments", {"name": "auto", "source": {"job": job["id"], "follow": "best"}, "batching": {"max_batch": BATCH}, "queue": {"max": QUEUE}})
    d.client.request("PATCH", "/v1/deployments/auto", {"queue": {"max": QUEUE}}, want=200)
    checkpoint = d.wait_deployment("auto")["checkpoint"]
    profile = f"/v1/checkpoints/{checkpoint}/profiles"
    if d.client.get(profile + "/half", want=(200, 404)).status == 404:
        draw = [{**one, "op": "translate", "params": {"dx": 1, "dy": 1}} for one in d.client.get(f"/v1/checkpoints/{checkpoint}").json["info"]["draw"]]
        d.client.post(profile, {"name": "half", "draw": draw})
    d.client.get(profile + "/half?wait=100s")
    while "dom:half" not in d.client.get("/v1/deployments/auto/mode").json["bundles"]:
        time.sleep(0.2)


def look(d):
    """(mode in force, p99 of the queue in milliseconds, answered per second) of the last second."""
    now = d.client.get("/v1/deployments/auto/traffic").json["now"]
    window = d.client.get("/v1/deployments/auto/stats?window=1s").json["window"]
    modes = window["modes"].values()
    waits = [m["queue_us"]["p99"] for m in modes if m["count"]]
    return now["mode"], max(waits) / 1000 if waits else None, sum(m["count"] for m in modes) / window["seconds"], now["auto"]["switches"]


def full_wait(d, mode, rate):
    """p99 of the wait in a full queue of that mode, microseconds."""
    d.client.put("/v1/deployments/auto/mode", {"mode": mode})
    client = bench(d, "--rate", rate, "--seconds", 6)
    time.sleep(5)
    waited = d.client.get("/v1/deployments/auto/stats?window=2s").json["window"]["modes"][mode]["queue_us"]["p99"]
    client.communicate()
    return waited


def run(d, a, times, aom, cheap):
    waits = [full_wait(d, mode, times * aom) for mode in ("aom", "dom:half")]
    target = int(math.sqrt(waits[0] * waits[1]))
    d.client.put("/v1/deployments/auto/mode", {"mode": "aom"})
    d.client.put("/v1/deployments/auto/traffic", {"auto": {"cheap": "dom:half", "target_p99_us": target, "window_ms": 2000, "hold_ms": 5000}})
    d.client.put("/v1/deployments/auto/mode", {"mode": "auto"})
    rows, began = [], time.monotonic()
    for load, seconds in ((0.4, 5), (times, a.step), (0.4, 40)):
        client = bench(d, "--rate", load * aom, "--seconds", seconds)
        for _ in range(seconds):
            time.sleep(1)
            mode, p99, answered, switches = look(d)
            rows.append({"s": time.monotonic() - began, "load": load, "mode": mode, "p99_ms": p99, "answered": answered})
            say(f"{rows[-1]['s']:5.1f} s  load {load:4.2f}  {mode:10s} queue p99 {p99 or 0:7.1f} ms  {answered:6.0f} answers/s")
            if load < 1 and switches >= 2 and seconds == 40:
                client.terminate()                     # it is back: nothing more is to be seen
                break
        client.communicate()
    step = [r for r in rows if r["load"] == times]
    over = [r["p99_ms"] for r in step[3:]]
    return {"times": times, "target_ms": target / 1000, "aom_images_per_s": aom, "cheap_images_per_s": cheap, "switches": look(d)[3],
            "down_after_s": next((r["s"] - step[0]["s"] + 1 for r in step if r["mode"] != "aom"), None),
            "worst_p99_aom_ms": max((r["p99_ms"] or 0) for r in step[:3]), "p99_cheap_ms": sorted(over)[len(over) // 2], "worst_p99_cheap_ms": max(over),
            "answers_per_s_in_step": sum(r["answered"] for r in step[3:]) / len(step[3:]),
            "back_after_s": next((r["s"] - step[-1]["s"] for r in rows if r["s"] > step[-1]["s"] and r["mode"] == "aom"), None), "timeline": rows}


def main():
    a = arguments()
    end = time.monotonic() + a.seconds
    with Kept(a.state) as d:
        ready(d, a, end)
        rates = {mode: saturation(d, a, mode) for mode in ("aom", "dom:half")}
        say(f"saturation: {rates}")
        out = [run(d, a, times, rates["aom"], rates["dom:half"]) for times in a.times]
        d.client.put("/v1/deployments/auto/mode", {"mode": "aom"})
    if a.json:
        print(json.dumps(out))
        return
    print("| load in the step | target | queue p99 before | with the cheap mode, median (worst) | answers/s | cheap after | back after the step | switches |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for r in out:
        print(f"| {r['times']:g} | {r['target_ms']:.0f} ms | {r['worst_p99_aom_ms']:.0f} ms | {r['p99_cheap_ms']:.0f} ({r['worst_p99_cheap_ms']:.0f}) ms |"
              f" {r['answers_per_s_in_step']:.0f} | {r['down_after_s'] or math.nan:.0f} s | {r['back_after_s'] or math.nan:.0f} s | {r['switches']} |")


if __name__ == "__main__":
    main()
