"""Shared by the long comparisons: a daemon whose directory is kept, and jobs that are recognised by their names. A run may be interrupted
anywhere, even by kill -9 of script or daemon, and continues when it is started again."""
import http.client, math, os, signal, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import Client, Daemon, cifar_subset, tar

BROKEN = (OSError, http.client.HTTPException)
BUSY = {"worker_silence_ms": 600000}          # at the lowest priority, with other load on the machine, a slow process is not dead


def say(text):
    print(text, file=sys.stderr, flush=True)


def add_arguments(p):
    p.add_argument("--state", required=True, help="directory of the daemon's data; created if missing")
    p.add_argument("--seconds", type=float, default=math.inf, help="stop after this many seconds; 0 only reports the results so far")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


class Kept(Daemon):
    """The daemon of a directory: one that is already running there (started by another script, or by one that was killed), or else our own."""

    def __init__(self, state):
        for s in (signal.SIGINT, signal.SIGTERM):      # also if a shell started this in the background
            signal.signal(s, signal.default_int_handler)
        super().__init__(data=os.path.abspath(state), args=[word for key, value in BUSY.items() for word in (f"--{key}", str(value))])

    def start(self, timeout=300):
        self.process = None
        try:
            with open(os.path.join(self.data, "wasd.addr")) as f:
                self.port = int(f.read().rpartition(":")[2])
            self.client = Client(self.port)
            if os.path.realpath(self.client.get("/v1/system").json["data_dir"]) == os.path.realpath(self.data):
                return self
        except (ValueError, KeyError, AssertionError, *BROKEN):
            pass
        return super().start(timeout)

    def alive(self):
        return self.process is not None and super().alive()

    def stop(self, timeout=120):
        if self.process is None:
            self.client.close()
            return 0
        return super().stop(timeout)


def dataset_name(train, test):
    return f"cifar-{train}-{test}"


def register(d, train, test):
    """The first photographs of every class of CIFAR-10, as a data set of the daemon. Skips if the archive is missing."""
    name = dataset_name(train, test)
    if d.client.get(f"/v1/datasets/{name}", want=(200, 404)).status == 404:
        say(f"reading {train} + {test} photographs")
        d.client.put(f"/v1/datasets/{name}", tar(cifar_subset(train, test)))
    d.wait_dataset(name)
    return name


def quarter(channels=(16, 32, 64, 128), name="resnet18-quarter"):
    """ResNet-18 with so many channels in its stages."""
    conv = lambda name, source, out, **more: {"type": "conv", "name": name, "from": [source], "out": out, "bias": False, **more}
    layers, last = [conv("stem", "input", channels[0]), {"type": "batchnorm"}, {"type": "relu", "name": "x"}], "x"
    for stage, out in enumerate(channels):
        for block in range(2):
            n, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            layers += [conv(f"{n}.conv1", last, out, stride=stride), {"type": "batchnorm"}, {"type": "relu", "name": f"{n}.mid"},
                       conv(f"{n}.conv2", f"{n}.mid", out), {"type": "batchnorm", "name": f"{n}.out"}]
            if stride == 2:
                layers += [conv(f"{n}.skip", last, out, kernel=1, stride=2, padding=0), {"type": "batchnorm", "name": f"{n}.short"}]
                last = f"{n}.short"
            layers += [{"type": "add", "from": [f"{n}.out", last]}, {"type": "relu", "name": n}]
            last = n
    return {"name": name, "layers": layers + [{"type": "globalpool"}, {"type": "flatten"}, {"type": "linear", "out": "classes"}]}


class Ending(Exception):
    """The script that started the daemon is stopping it."""


def ask(d, path):
    reply = d.client.get(path, want=(200, 503))
    if reply.status == 503:
        raise Ending
    return reply.json


def jobs(d):
    return {j["name"]: j for j in ask(d, "/v1/jobs?limit=500")["items"]}


def attend(d, specs, end, over):
    there = jobs(d)
    for spec in specs:
        if spec["name"] not in there and time.monotonic() < end:
            d.submit(**spec)
    for spec in specs:
        while spec["name"] not in over and time.monotonic() < end:
            j = jobs(d)[spec["name"]]
            if j["state"] in ("completed", "failed", "cancelled"):
                over[spec["name"]] = j["state"]
                say(f"{time.strftime('%H:%M:%S')} {spec['name']}: {j['state']} {j.get('message') or ''}")
            else:
                ask(d, f"/v1/jobs/{j['id']}?wait={int(max(1, min(20, end - time.monotonic())))}s&until=terminal")


def work(d, specs, end):
    """Submits the missing jobs and waits for all of them, or until `end`, or Ctrl-C. Restarts a dead daemon. Returns the names of failed jobs."""
    over = {}
    try:
        while time.monotonic() < end:
            try:
                attend(d, specs, end, over)
                break
            except Ending:
                time.sleep(2)
            except BROKEN as why:
                say(f"{time.strftime('%H:%M:%S')} the daemon does not answer: {why}")
                time.sleep(2)
                if not d.alive():
                    d.start()
    except KeyboardInterrupt:
        say("cut; start again to go on")
    return [name for name, state in over.items() if state != "completed"]
