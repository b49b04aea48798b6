#!/usr/bin/python3
"""Training speed of wasd beside plain PyTorch on the same machine, threads, batch and network shapes.

    tests/bench/train_vs_pytorch.py [--rounds 5] [--steps 4] [--threads 2] [--batch 128] [--build build]

Every round runs every contestant once, one after the other, each in a process of its own; the table shows medians over rounds
and ratios of those medians to the best plain PyTorch. Absolute numbers drift with the machine's load; ratios are what counts.
PyTorch trains plain weights; wasd is timed with plain weights too, and with the WAS strategies on top."""
import argparse, json, os, platform, statistics, subprocess, sys

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--rounds", type=int, default=5)
ap.add_argument("--steps", type=int, default=4, help="timed steps of one run")
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--batch", type=int, default=128)
ap.add_argument("--arch", action="append", help="resnet18, vgg16; default both")
ap.add_argument("--build", default=os.environ.get("WASD_BUILD", "build"))
ap.add_argument("--json", action="store_true")
ap.add_argument("--torch-run", nargs=2, metavar=("ARCH", "LAYOUT"), help=argparse.SUPPRESS)
a = ap.parse_args()


def torch_network(arch, nn, F):
    """The networks of was-algorithm.md with plain weights: ResNet-18 with 3x3 shortcuts, VGG-16 with biases and the 512 head."""
    class Block(nn.Module):
        def __init__(self, i, o, s):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o)
            self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
            self.short = None if s == 1 and i == o else nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o))

        def forward(self, x):
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
            return F.relu(y + (x if self.short is None else self.short(x)), inplace=True)

    if arch == "resnet18":
        layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(True)]
        i = 64
        for o, s in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [Block(i, o, s), Block(o, o, 1)]
            i = o
        return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(512, 10))
    if arch == "vgg16":
        layers, i = [], 3
        for o in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
            if o:
                layers += [nn.Conv2d(i, o, 3, 1, 1), nn.BatchNorm2d(o), nn.ReLU(True)]
                i = o
            else:
                layers.append(nn.MaxPool2d(2))
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(0.5),
                             nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(0.5), nn.Linear(512, 10))
    sys.exit(f"no PyTorch version of {arch} here")


def torch_run(arch, layout):
    """One contestant's process: prints images per second and the version."""
    import time
    import torch
    from torch import nn
    import torch.nn.functional as F
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    net = torch_network(arch, nn, F).train()
    x, y = torch.randn(a.batch, 3, 32, 32), torch.randint(0, 10, (a.batch,))
    if layout == "channels_last":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step():
        opt.zero_grad(set_to_none=False)
        F.cross_entropy(net(x), y).backward()
        opt.step()
    for _ in range(4):      # PyTorch's first steps mostly fault memory in
        step()
    t, c, best = time.perf_counter(), time.process_time(), float("inf")
    for _ in range(a.steps):
        t0 = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - t0)
    print(json.dumps({"images_per_s": a.batch * a.steps / (time.perf_counter() - t), "ms_best_step": best * 1e3,
                      "cpu_ms_per_step": (time.process_time() - c) * 1e3 / a.steps, "version": torch.__version__}))


def run(cmd, env=None):
    p = subprocess.run(cmd, capture_output=True, text=True, env=env)
    if p.returncode:
        sys.exit(f"{' '.join(cmd)}: exit status {p.returncode}\n{p.stderr}")
    return json.loads(p.stdout)


def cpu():
    info = open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else ""
    line = next((l.split(":", 1)[1].strip() for l in info.splitlines() if l.startswith("model name")), platform.machine())
    flags = next((l.split() for l in info.splitlines() if l.startswith("flags")), [])
    return f"{line}, {os.cpu_count()} cores, " + " ".join(f for f in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16") if f in flags)


if a.torch_run:
    torch_run(*a.torch_run)
    sys.exit(0)

engine = os.path.join(a.build, "wasd-engine")
if not os.access(engine, os.X_OK):
    sys.exit(f"{engine} is not built: make")
if subprocess.run(["/usr/bin/python3", "-c", "import torch"], capture_output=True).returncode:
    print("skip train_vs_pytorch: no PyTorch for /usr/bin/python3; install it with: apt-get install python3-torch")
    sys.exit(0)

# PyTorch frees and takes its activations anew in every step. An allocator that keeps them instead of giving them back to the system makes it
# two to three times as fast where page faults are dear (virtual machines): its best setting, so that is what wasd is compared with.
keep = dict(os.environ, MALLOC_TRIM_THRESHOLD_="-1", MALLOC_MMAP_MAX_="0")
me = [sys.executable, os.path.abspath(__file__), "--steps", str(a.steps), "--threads", str(a.threads), "--batch", str(a.batch), "--torch-run"]
common = ["--batch", str(a.batch), "--threads", str(a.threads), "--steps", str(a.steps), "--json"]
out = {"cpu": cpu(), "batch": a.batch, "threads": a.threads, "rounds": a.rounds, "results": []}
for arch in a.arch or ["resnet18", "vgg16"]:
    contestants = {"PyTorch, NCHW": me + [arch, "contiguous"], "PyTorch, channels last": me + [arch, "channels_last"]}
    for was in ("off", "translate", "paper"):
        contestants["wasd, " + ("plain" if was == "off" else "WAS " + was)] = [engine, "bench", "train", "--arch", arch, "--was", was] + common
    speed, cpu_ms, last = {c: [] for c in contestants}, {c: [] for c in contestants}, {}
    for r in range(a.rounds):
        for c, cmd in contestants.items():
            last[c] = run(cmd, keep if c.startswith("PyTorch") else None)
            speed[c].append(last[c]["images_per_s"])
            cpu_ms[c].append(last[c]["cpu_ms_per_step"])
        if not a.json:
            print(f"{arch}: round {r + 1} of {a.rounds} done", file=sys.stderr)
    peer = max(statistics.median(v) for c, v in speed.items() if c.startswith("PyTorch"))
    cpu_peer = min(statistics.median(v) for c, v in cpu_ms.items() if c.startswith("PyTorch"))
    for c, v in speed.items():
        m = statistics.median(v)
        out["results"].append({"arch": arch, "contestant": c, "images_per_s": m, "min": min(v), "max": max(v), "ratio": m / peer, "cpu_ms_per_image": statistics.median(cpu_ms[c]) / a.batch, "cpu_ratio": cpu_peer / statistics.median(cpu_ms[c]),
                               "allocations": last[c].get("allocations"), "version": last[c]["version"], "coretype": last[c].get("coretype")})
if a.json:
    print(json.dumps(out))
    sys.exit(0)
ours = next(r for r in out["results"] if r["contestant"].startswith("wasd"))
theirs = next(r for r in out["results"] if r["contestant"].startswith("PyTorch"))
print(f"\n{out['cpu']}\nwasd {ours['version']} ({ours['coretype']} kernels), PyTorch {theirs['version']}; batch {a.batch}, {a.threads} threads, medians of {a.rounds} rounds\n")
print(f"{'network':10}{'':26}{'images/s':>9}{'min':>8}{'max':>8}{'ratio':>8}{'cpu ms/img':>12}{'ratio':>7}  allocations")
for r in out["results"]:
    n = "" if r["allocations"] is None else f"{r['allocations']:.0f}"
    print(f"{r['arch']:10}{r['contestant']:26}{r['images_per_s']:9.1f}{r['min']:8.1f}{r['max']:8.1f}{r['ratio']:8.2f}{r['cpu_ms_per_image']:12.2f}{r['cpu_ratio']:7.2f}  {n}")
print("\nratio: to the faster PyTorch layout, larger is better. cpu: processor time of all threads, hardly disturbed by other work on the machine;\n"
      "compare it with --threads 1, since threads that wait in a spin count too. allocations: in the timed steps of wasd's last run.")
