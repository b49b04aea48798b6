#!/usr/bin/python3
"""Compares wasd with its peers on this machine: the same network shapes, batch and threads, measured in turn.

    tests/bench/peers.py train  [--networks resnet18,...] [--batch 128] [--rounds 3]     a training step: PyTorch, wasd
    tests/bench/peers.py infer  [--networks resnet18,...] [--batches 1,8,64]             inference: ONNX Runtime, wasd
    tests/bench/peers.py growth [--network resnet18]                                     wasd alone: batch size, data set size

In every round each contender runs once, in its own process. Tables show medians over rounds and ratios of those medians: absolute
numbers drift with the machine's load, ratios within one run much less. A contender that cannot run here is named with the reason,
and the others continue. --json keeps every sample; with --resume an interrupted run continues where it stopped."""
import argparse, collections, contextlib, datetime, fnmatch, json, math, os, platform, re, shutil, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
TORCH_PEER, ONNX_PEER = os.path.join(HERE, "torch_peer.py"), os.path.join(HERE, "onnx_peer.js")

# Parameters that wasd has in addition to the plain network: the reference's vectors of alphas, including unused ones, and VGG's unused batch norm.
WAS_ONLY = {"resnet18": 8 * 4, "vgg16": 45 + 2 * 512, "googlenet": 9 * 8, "mobilenetv2": 17 * 2, "efficientnet_lite0": 16 * 2}

# Each program chooses its kernels, threads and allocator for this CPU, or they are set here; the caller's environment has no influence.
ENV = {k: v for k, v in os.environ.items() if k not in ("WASD_OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "GLIBC_TUNABLES")
       and not k.startswith(("OPENBLAS_", "DNNL_", "ONEDNN_", "OMP_", "GOMP_", "MALLOC_"))}
# PyTorch frees and reallocates its activations in every step. An allocator that keeps the memory instead of returning it to the system makes
# PyTorch two to three times as fast where page faults are expensive (virtual machines). Huge pages were tried too, without effect.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_MMAP_MAX_": "0"}

Contender = collections.namedtuple("Contender", "key label command env peer precision")


class Failure(Exception):
    """A contender that cannot run; the text gives the reason."""


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- running one process -------------------------------------------------------------------------------------------------------

def run(command, env=None, timeout=900):
    """The last JSON object that the command prints."""
    try:
        p = subprocess.run(command, capture_output=True, text=True, env={**ENV, **(env or {})}, timeout=timeout)
    except FileNotFoundError:
        raise Failure(f"{command[0]} is not there") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"no result after {timeout} s") from None
    if p.returncode:
        lines = [line for line in p.stderr.splitlines() if line.strip()] or ["no message"]
        raise Failure((f"ended by signal {-p.returncode}: " if p.returncode < 0 else "") + lines[-1].strip().replace(" (see bench --help)", ""))
    try:
        return json.loads(p.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise Failure(f"printed no JSON: {p.stdout[-200:]!r}") from None


def bench(a, what, *options):
    """A command of wasd-engine bench, with the same number of threads as the peers."""
    return [a.engine, "bench", what, "--threads", str(a.threads), *(["--backend", a.backend] if a.backend else []), "--json", *map(str, options)]


def why_no_torch(python):
    """None where there is one."""
    if shutil.which(python) and subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
        return None
    return f"no PyTorch for {python}: apt-get install python3-torch"


# ---- description of the run ------------------------------------------------------------------------------------------------------------

def machine():
    info = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
        info = f.read()
    find = lambda name: next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith(name)), "")
    wanted = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
    have = (find("flags") or find("Features")).split()
    return {"cpu": find("model name") or platform.machine(), "cores": os.cpu_count(), "features": [f for f in wanted if f in have]}


def revision():
    git = lambda *words: subprocess.run(["git", "-C", TOP, *words], capture_output=True, text=True).stdout.strip()
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+changes" if git("status", "--porcelain", "-uno") else "")


def wasd_version(a):
    p = subprocess.run([a.engine, "--version"], capture_output=True, text=True, env=ENV)
    return {"wasd": p.stdout.split()[-1] if p.stdout.split() else "?", "revision": revision()}


def torch_version(a):
    return {"torch": "absent"} if a.no_torch else run([a.python, TORCH_PEER, "versions"])


def header(record):
    m, v, s = record["machine"], record["versions"], record["settings"]
    backends = sorted({x["backend"] + (f" ({x['coretype']} kernels)" if x["backend"] == "openblas" else "") for x in record["samples"] if "backend" in x})
    wasd = f"wasd {v['wasd']} at {v['revision']}" + (f", backend {' and '.join(backends)}" if backends else "")
    peers = [f"PyTorch {v['torch']} (oneDNN {v['onednn']})"] if v.get("onednn") else []
    peers += [f"ONNX Runtime {v['onnxruntime']} (node {v['node']})"] if v.get("onnxruntime") else []
    load = record["load"]
    return "\n".join([f"{record['date']}; {m['cpu']}, {m['cores']} cores, {' '.join(m['features'])}; {s['threads']} threads", "; ".join([wasd, *peers]),
                      f"other work on the machine: load {load[0]:.2f} when this began; medians of {s['rounds']} round{'s' * (s['rounds'] != 1)}"])


# ---- rounds, samples, files ----------------------------------------------------------------------------------------------------

class Bench:
    """The samples of one run, and the file that keeps them."""

    def __init__(self, a, versions, settings):
        self.path = a.json
        self.record = {"mode": a.mode, "date": datetime.date.today().isoformat(), "machine": machine(), "versions": versions, "settings": settings,
                       "load": list(os.getloadavg()), "samples": [], "failures": []}
        if self.path and os.path.exists(self.path):
            self.resume()

    def resume(self):
        with open(self.path) as f:
            old = json.load(f)
        for part in ("mode", "machine", "versions", "settings"):
            mine, theirs = self.record[part], old[part]
            if part == "settings":      # the new run may request more rounds
                mine, theirs = ({k: v for k, v in x.items() if k != "rounds"} for x in (mine, theirs))
            if mine != theirs:
                sys.exit(f"{self.path} cannot be resumed, its samples compare with no new ones: {part} were {theirs}, are {mine}")
        self.record.update(samples=old["samples"], date=old["date"], load=old["load"])

    def save(self):
        if self.path:
            with open(self.path + ".part", "w") as f:
                json.dump(self.record, f, indent=1)
            os.replace(self.path + ".part", self.path)

    def of(self, case, key=None):
        return [s for s in self.record["samples"] if s["case"] == case and key in (None, s["contender"])]

    def failed(self, case, key):
        return next((f["why"] for f in self.record["failures"] if (f["case"], f["contender"]) == (case, key)), None)

    def fail(self, case, key, why):
        self.record["failures"].append({"case": case, "contender": key, "why": why})
        say(f"{case}: {key} cannot run: {why}")
        self.save()

    def measure(self, case, contender, round_, command=None):
        """Takes one sample, unless this round has one already or the contender has failed."""
        if self.failed(case, contender.key) or any(s["round"] == round_ for s in self.of(case, contender.key)):
            return
        began = time.monotonic()
        try:
            sample = run(command or contender.command, contender.env)
            if sample.get("precision", contender.precision) != contender.precision:
                raise Failure(f"computed in {sample['precision']}, not {contender.precision}")
        except Failure as why:
            self.fail(case, contender.key, str(why))
            return
        self.record["samples"].append({"case": case, "contender": contender.key, "round": round_, **sample})
        self.save()
        say(f"{case}, round {round_ + 1}: {contender.key:32} {sample['images_per_s']:9.1f} images/s  ({time.monotonic() - began:.0f} s)")

    def speeds(self, case, key):
        return [s["images_per_s"] for s in self.of(case, key)]

    def median(self, case, key):
        v = self.speeds(case, key)
        return statistics.median(v) if v else None


def chosen(contenders, only):
    if not only:
        return contenders
    for pattern in only:
        if not any(fnmatch.fnmatch(c.key, pattern) for c in contenders):
            sys.exit(f"--only {pattern}: contenders here are {', '.join(c.key for c in contenders)}")
    return [c for c in contenders if any(fnmatch.fnmatch(c.key, p) for p in only)]


def in_rounds(b, rounds, case, contenders, drop=None):
    for r in range(rounds):
        for c in contenders:
            if not (drop and r and drop(c)):
                b.measure(case, c, r)


# ---- tables ----------------------------------------------------------------------------------------------------------------------

def table(head, rows):
    """A Markdown table with an aligned source. Columns of numbers are right-aligned."""
    rows = [[str(x) for x in row] for row in rows]
    width = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    right = [i > 0 and all(re.match(r"[\d.–-]|$", r[i]) for r in rows) for i in range(len(head))]
    line = lambda r: "| " + " | ".join(x.rjust(w) if n else x.ljust(w) for x, w, n in zip(r, width, right)) + " |"
    return "\n".join([line(head), "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(width, right)) + "|", *map(line, rows)])


def digits(v):
    return f"{v:.0f}" if v >= 100 else f"{v:.1f}"


def spread(v):
    return f"{digits(min(v))}–{digits(max(v))}"


def ratio(v, base):
    return f"{v / base:.2f}" if v and base else "–"


def failures(b):
    """Lines, grouped by reason: the same contender usually fails for every network."""
    groups = collections.OrderedDict()
    for f in b.record["failures"]:
        groups.setdefault((f["contender"], f["why"]), []).append(f["case"])
    return [f"\nNot run: {key} ({', '.join(cases)}): {why}" for (key, why), cases in groups.items()]


# ---- train ---------------------------------------------------------------------------------------------------------------------

def train_contenders(a, network):
    out = []
    for precision, label in (("fp32", "fp32"), ("bf16-autocast", "bf16, autocast"), ("bf16-weights", "bf16, fp32 masters")):
        for layout in ("nchw", "channels-last"):
            command = [a.python, TORCH_PEER, "train", network, "--layout", layout, "--precision", precision, "--batch", str(a.batch),
                       "--threads", str(a.threads), "--steps", str(a.steps)]
            out.append(Contender(f"torch-{precision}-{layout}", f"PyTorch, {label}, {'NCHW' if layout == 'nchw' else 'channels last'}", command,
                                 {**KEEP_MEMORY, "OMP_NUM_THREADS": str(a.threads)}, True, precision[:4]))
    for precision in ("fp32", "bf16"):
        for key, was, label in (("plain", "off", "plain"), ("translate", "translate", "WAS, always translated"), ("paper", "paper", "WAS, as published")):
            command = bench(a, "train", "--arch", network, "--was", was, "--batch", a.batch, "--steps", a.steps, "--precision", precision)
            if (key, precision) != ("paper", "bf16"):
                out.append(Contender(f"wasd-{key}-{precision}", f"wasd, {label}, {precision}", command, None, False, precision))
    return chosen(out, a.only)


def check_shapes(a, networks):
    """Ends the script if the networks differ, because the comparison would be meaningless."""
    archs = {x["name"]: x["variants"][0] for x in run([a.engine, "capabilities"])["archs"]}
    for n in networks:
        theirs = run([a.python, TORCH_PEER, "shape", n])
        if n not in archs:
            sys.exit(f"{n}: wasd has no such network")
        ours = {"params": archs[n]["params"] - WAS_ONLY[n], "macs": archs[n]["macs"]}
        if ours != theirs:
            sys.exit(f"{n} is not the same network in wasd and in torch_peer.py: {ours} and {theirs} (without WAS's own parameters)")


def best_peer(b, case, contenders, precision):
    return max((b.median(case, c.key) or 0 for c in contenders if c.peer and c.precision == precision), default=0) or None


def train(a):
    networks = a.networks or list(WAS_ONLY)
    b = Bench(a, {**wasd_version(a), **torch_version(a)}, {"threads": a.threads, "batch": a.batch, "steps": a.steps, "rounds": a.rounds, "backend": a.backend})
    if not a.no_torch:
        check_shapes(a, networks)
    with interrupted():
        for n in networks:
            contenders = train_contenders(a, n)
            for c in contenders:
                if c.peer and a.no_torch:
                    b.fail(n, c.key, a.no_torch)

            def far_behind(c):
                """Only PyTorch's best setting counts, so a setting far behind it need not run again."""
                best = best_peer(b, n, contenders, c.precision)
                return not a.all_rounds and c.peer and best and (b.median(n, c.key) or best) < 0.75 * best
            in_rounds(b, a.rounds, n, contenders, far_behind)
    out = [f"A training step (forward, backward, SGD with momentum), batch {a.batch} of 3x32x32, images/s", header(b.record)]
    for n in networks:
        contenders, rows = train_contenders(a, n), []
        for c in contenders:
            v = b.speeds(n, c.key)
            if not v:
                continue
            m, last = statistics.median(v), b.of(n, c.key)[-1]
            plain = None if c.peer else b.median(n, f"wasd-plain-{c.precision}")
            ms = last.get("ms_per_step", {})
            convs = f"{100 * (ms['conv_fwd'] + ms['conv_bwd']) / ms['total']:.0f} %" if "conv_fwd" in ms else ""
            rows.append([c.label, digits(m), spread(v), len(v), ratio(m, best_peer(b, n, contenders, c.precision)), ratio(m, plain) if plain else "", convs,
                         f"{last['peak_rss_bytes'] / 2**20:.0f}"])
        if rows:
            out.append("\n" + table([n, "images/s", "spread", "rounds", "to PyTorch", "to wasd plain", "in convolutions", "peak MiB"], rows))
    out.append("\nto PyTorch: to PyTorch's best setting in the same precision, larger is faster. in convolutions: share of the step's wall time.")
    return out + failures(b)


# ---- infer ---------------------------------------------------------------------------------------------------------------------

def install_onnxruntime(a):
    """The package contains its CPU library; its install script would only download GPU libraries, so scripts are disabled."""
    where = os.path.join(a.out, "node_modules", "onnxruntime-node", "package.json")
    if not os.path.exists(where):
        if not shutil.which("npm") or not shutil.which("node"):
            raise Failure("no npm: apt-get install npm")
        say(f"installing onnxruntime-node into {a.out}")
        p = subprocess.run(["npm", "install", "--prefix", a.out, "--ignore-scripts", "--no-audit", "--no-fund", "onnxruntime-node" + a.onnxruntime],
                           capture_output=True, text=True)
        if p.returncode:
            raise Failure("npm install onnxruntime-node: " + (p.stderr.strip().splitlines() or ["no message"])[0])
    with open(where) as f:
        version = json.load(f)["version"]
    return {"onnxruntime": version, "node": subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")}


def onnx_model(a, network, batch):
    """One file per batch size: ONNX Runtime plans best with known shapes."""
    path = os.path.join(a.out, f"{network}-{batch}.onnx")
    if not os.path.exists(path):
        run([a.python, TORCH_PEER, "export", network, path + ".part", "--batch", str(batch), "--threads", str(a.threads)])
        os.replace(path + ".part", path)
    return path


def infer_contenders(a, network, batch, both_axes):
    out = [Contender("onnxruntime-fp32", "ONNX Runtime, fp32", ["node", ONNX_PEER, a.out, os.path.join(a.out, f"{network}-{batch}.onnx"), str(batch),
                                                                 str(a.threads), str(a.seconds)], None, True, "fp32")]
    for mode in ("aom", "dom"):
        for precision in ("fp32", "bf16"):
            command = bench(a, "infer", "--arch", network, "--batch", batch, "--mode", mode, "--was", "translate",
                            *(["--shift", "both"] if both_axes and mode == "dom" else []), *(["--precision", precision] if precision != "fp32" else []))
            label = {"aom": "AOM", "dom": "DOM, all shifted on both axes" if both_axes else "DOM, a random draw"}[mode]
            out.append(Contender(f"wasd-{mode}-{precision}", f"wasd {label}, {precision}", command, None, False, precision))
    return chosen(out, a.only)


def infer(a):
    networks = a.networks or ["resnet18", "vgg16", "mobilenetv2", "googlenet"]
    text = subprocess.run([a.engine, "bench", "infer", "--help"], capture_output=True, text=True, env=ENV).stdout
    both_axes = "--shift" in text
    if not both_axes:
        say("this wasd has no bench infer --shift both: DOM is timed with the random draw of its seed")
    why, onnx = a.no_torch and a.no_torch + ", which writes the ONNX models", {}
    try:
        onnx = install_onnxruntime(a)
    except Failure as f:
        why = why or str(f)
    b = Bench(a, {**wasd_version(a), **torch_version(a), **onnx},
              {"threads": a.threads, "seconds": a.seconds, "rounds": a.rounds, "backend": a.backend, "both_axes": both_axes})
    if not a.no_torch:
        check_shapes(a, networks)
    with interrupted():
        for n in networks:
            for batch in a.batches:
                infer_case(a, b, n, batch, both_axes, why)
    out = ["Inference, batch norm folded, images of 3x32x32, images/s", header(b.record)]
    for n in networks:
        rows = []
        for batch in a.batches:
            case = f"{n} batch {batch}"
            for c in infer_contenders(a, n, batch, both_axes):
                v = b.speeds(case, c.key)
                if v:
                    m, last = statistics.median(v), b.of(case, c.key)[-1]
                    aom = b.median(case, f"wasd-aom-{c.precision}") if c.key.startswith("wasd-dom") else None
                    macs = f"{last['macs_per_image'] * 1e-6:.0f}" if "macs_per_image" in last else ""
                    rows.append([c.label, batch, digits(m), spread(v), f"{batch * 1e3 / m:.2f}", macs, ratio(m, b.median(case, "onnxruntime-fp32")),
                                 ratio(m, aom) if aom else ""])
        if rows:
            out.append("\n" + table([n, "batch", "images/s", "spread", "ms a batch", "M MAC", "to ONNX Runtime", "to AOM"], rows))
    out.append("\nto ONNX Runtime: to its fp32, it has no bf16 on CPUs. to AOM: in the same precision. M MAC: multiply-adds of an image, in millions.")
    return out + failures(b)


def infer_case(a, b, network, batch, both_axes, why):
    case = f"{network} batch {batch}"
    contenders = infer_contenders(a, network, batch, both_axes)
    steps = {}
    for c in contenders:
        if c.peer:
            try:
                if why:
                    raise Failure(why)
                onnx_model(a, network, batch)
            except Failure as f:
                b.fail(case, c.key, str(f))
            continue
        if len(b.of(case, c.key)) >= a.rounds:
            continue
        try:                    # a short run determines how many steps take --seconds, and also fills the caches
            steps[c.key] = max(3, math.ceil(a.seconds * run([*c.command, "--steps", "3"])["images_per_s"] / batch))
        except Failure as f:
            b.fail(case, c.key, str(f))
    for r in range(a.rounds):
        for c in contenders:
            b.measure(case, c, r, [*c.command, "--steps", str(steps[c.key]), "--warmup", str(max(3, steps[c.key] // 4))] if c.key in steps else None)


# ---- growth --------------------------------------------------------------------------------------------------------------------

def growth(a):
    b = Bench(a, wasd_version(a), {"threads": a.threads, "network": a.network, "precision": a.precision, "was": a.was, "rounds": a.rounds, "backend": a.backend})
    by_batch = chosen([Contender(f"batch-{n}", f"batch {n}", bench(a, "train", "--arch", a.network, "--was", a.was, "--batch", n, "--precision", a.precision,
                                                                   "--steps", max(2, a.steps * 128 // n)), None, False, a.precision) for n in a.batches]
                      + [Contender(f"images-{n}", f"{n} images", None, None, False, a.precision) for n in a.images], a.only)
    by_images = [c for c in by_batch if c.command is None]
    by_batch = [c for c in by_batch if c.command]
    with interrupted():
        in_rounds(b, a.rounds, "step", by_batch)
        if by_images:
            epochs(a, b, by_images)
    out = [f"Growth of cost: {a.network}, WAS {a.was}, {a.precision}", header(b.record)]
    for case, contenders, title in (("step", by_batch, "a training step"), ("epoch", by_images, f"an epoch, batch {a.batch}, one run each")):
        measured = [(c, b.speeds(case, c.key)) for c in contenders if b.speeds(case, c.key)]
        if not measured:
            continue
        m = [statistics.median(v) for _, v in measured]
        rows = []
        for (c, v), x in zip(measured, m):
            last = b.of(case, c.key)[-1]
            waited = f"{100 * last['stall_s'] / last['train_s']:.2f} %" if case == "epoch" else ""
            rows.append([c.label, digits(x), spread(v), f"{1e3 / x:.3f}", ratio(m[0], x), waited])
        out.append("\n" + table([title, "images/s", "spread", "ms an image", "time to the first", "waited for images"], rows))
        out.append(f"\nflat within {100 * (max(m) / min(m) - 1):.1f} % (fastest to slowest, time of an image)")
    return out + failures(b)


def epochs(a, b, contenders):
    """Whole epochs in the daemon: synthetic images through the loader. The trainer's images_per_s excludes evaluation."""
    os.environ["WASD_BUILD"] = a.build
    sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))
    import lib
    for k in set(os.environ) - set(ENV):        # the daemon inherits the environment of the other contenders
        if k != "WASD_BUILD":
            del os.environ[k]
    if all(b.speeds("epoch", c.key) for c in contenders):
        return
    try:
        with lib.Daemon(args=["--threads", str(a.threads)]) as d:
            for c in contenders:
                if not b.speeds("epoch", c.key):
                    epoch(a, b, d, c)
    except (AssertionError, OSError) as why:
        for c in contenders:
            if not b.speeds("epoch", c.key):
                b.fail("epoch", c.key, str(why).splitlines()[0])


def epoch(a, b, daemon, c):
    n = int(c.key.split("-")[1])
    # The first epoch of a few thousand images includes start-up costs, so the second one counts; for long epochs one is enough.
    count = 2 if n < 20000 else 1
    daemon.glyphs(c.key, train=n, test=10)
    was = {"off": {"was": False}, "paper": {}, "translate": {"was": {"transforms": [{"type": "translate"}]}}}[a.was]
    job = daemon.submit(dataset=c.key, model={"arch": a.network}, train={"epochs": count, "batch": a.batch, "precision": a.precision}, **was)
    daemon.wait_job(job["id"], timeout=7200)
    last = {name: values[count] for name, values in daemon.series(job["id"]).items() if count in values}
    b.record["samples"].append({"case": "epoch", "contender": c.key, "round": 0, **last, "train_s": n / last["images_per_s"]})
    b.save()
    say(f"epoch: {c.key:32} {last['images_per_s']:9.1f} images/s  (waited {last['stall_s']:.2f} s for images)")


# ---- the command line ------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def interrupted():
    """Ctrl-C stops measuring; the results so far are printed."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted")


def numbers(text):
    return [int(x) for x in text.split(",")]


def names(text):
    return text.split(",")


def networks(text):
    for n in names(text):
        if n not in WAS_ONLY:
            raise argparse.ArgumentTypeError(f"{n}: networks here are {', '.join(WAS_ONLY)}")
    return names(text)


TRAIN_HELP = """Contenders: torch-PRECISION-LAYOUT with fp32, bf16-autocast, bf16-weights (bf16 weights, fp32 masters) and nchw, channels-last;
wasd-plain-fp32, wasd-translate-fp32, wasd-paper-fp32, wasd-plain-bf16, wasd-translate-bf16. One round of ResNet-18 takes about two
minutes on two cores; later rounds skip settings of PyTorch that are far behind its best."""
INFER_HELP = """Contenders: onnxruntime-fp32, wasd-aom-fp32, wasd-aom-bf16, wasd-dom-fp32, wasd-dom-bf16. npm installs onnxruntime-node
into --out, where the ONNX models are written too; the next run reuses both. Without --out they go to a temporary directory. Times are
taken in the computing process, until the logits are available: node's overhead per call is part of ONNX Runtime's time."""
GROWTH_HELP = """Contenders: batch-N for a step of N images, images-N for an epoch of N synthetic images in its own daemon. 50,000 images take
several minutes: --only 'batch-*' skips the epochs, --network mobilenetv2 shortens them."""


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="mode", required=True, metavar="train|infer|growth")

    def mode(name, function, help_, text, rounds):
        p = sub.add_parser(name, help=help_, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        p.set_defaults(function=function)
        p.add_argument("--threads", type=int, default=2, help="rounds of every contender [2]")
        p.add_argument("--rounds", type=int, default=rounds, help=f"[{rounds}]")
        p.add_argument("--only", type=names, metavar="CONTENDER,...", help="only these contenders; patterns such as 'wasd-*' are allowed")
        p.add_argument("--json", metavar="FILE", help="file for all samples, written as they arrive")
        p.add_argument("--resume", action="store_true", help="continue with the samples in --json FILE; versions and settings must be the same")
        p.add_argument("--build", default=os.environ.get("WASD_BUILD", os.path.join(TOP, "build")), help="folder of wasd-engine [build]")
        p.add_argument("--backend", help="backend of wasd [the fastest]")
        p.add_argument("--out", metavar="DIR", help="folder for the tables, as MODE.md, and wasd's choice of algorithms"
                       + (", and what is installed and exported" if name == "infer" else ""))
        if name != "growth":
            p.add_argument("--python", default="/usr/bin/python3", help="Python with PyTorch [/usr/bin/python3]")
        return p

    p = mode("train", train, "a training step beside PyTorch", TRAIN_HELP, 3)
    p.add_argument("--networks", type=networks, metavar="NAME,...", help=f"[{','.join(WAS_ONLY)}]")
    p.add_argument("--batch", type=int, default=128, help="[128]")
    p.add_argument("--steps", type=int, default=4, help="timed steps per process [4]")
    p.add_argument("--all-rounds", action="store_true", help="run PyTorch's slow settings in every round too")
    p = mode("infer", infer, "inference beside ONNX Runtime", INFER_HELP, 5)
    p.add_argument("--networks", type=networks, metavar="NAME,...", help="[resnet18,vgg16,mobilenetv2,googlenet]")
    p.add_argument("--batches", type=numbers, default=[1, 8, 64], metavar="N,...", help="[1,8,64]")
    p.add_argument("--seconds", type=float, default=1, help="timed seconds per process [1]")
    p.add_argument("--onnxruntime", default="", metavar="@VERSION", help="version of onnxruntime-node, as npm writes it [the newest]")
    p = mode("growth", growth, "how wasd's cost grows with batch and data set", GROWTH_HELP, 5)
    p.add_argument("--network", default="resnet18", choices=list(WAS_ONLY), help="[resnet18]")
    p.add_argument("--was", default="translate", choices=("translate", "paper", "off"), help="[translate]")
    p.add_argument("--precision", default="fp32", help="[fp32]")
    p.add_argument("--batches", type=numbers, default=[32, 64, 128, 256], metavar="N,...", help="[32,64,128,256]")
    p.add_argument("--images", type=numbers, default=[5000, 50000], metavar="N,...", help="[5000,50000]")
    p.add_argument("--batch", type=int, default=128, help="batch size of the epochs [128]")
    p.add_argument("--steps", type=int, default=4, help="timed steps at batch 128; other batch sizes use the same number of images [4]")
    a = ap.parse_args()
    a.build = os.path.abspath(a.build)
    a.engine = os.path.join(a.build, "wasd-engine")
    if not os.access(a.engine, os.X_OK):
        sys.exit(f"{a.engine} is not built: make")
    if a.resume and not a.json:
        ap.error("--resume goes with --json FILE")
    if a.json and os.path.exists(a.json) and not a.resume:
        ap.error(f"{a.json} exists: --resume goes on with it, or name another file")
    with tempfile.TemporaryDirectory(prefix="wasd-peers-") as temporary:
        a.out = os.path.abspath(a.out or temporary)
        # The first process of wasd measures its choice of algorithms; the others reuse it, as a daemon reuses the file in its data directory.
        ENV.setdefault("WASD_TUNING", os.path.join(a.out, "tuning"))
        a.no_torch = why_no_torch(a.python) if "python" in a else None
        os.makedirs(a.out, exist_ok=True)
        text = "\n".join(a.function(a)) + "\n"
        with open(os.path.join(a.out, a.mode + ".md"), "w") as f:
            f.write(text)
        print("\n" + text, end="")


if __name__ == "__main__":
    main()
