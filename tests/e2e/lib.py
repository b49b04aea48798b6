"""Shared by the end-to-end tests: a daemon on a free port in its own directory, a small HTTP client, a reader of server-sent events
that waits instead of sleeping, generated images and archives, and reports in the form that tests/run counts."""
import atexit, collections, contextlib, glob, hashlib, http.client, io, json, os, queue, random, re, shutil, signal, sqlite3, struct, subprocess, sys, tarfile, tempfile
import threading, time, traceback, zlib

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("WASD_BUILD", os.path.join(TOP, "build")))
SHARED = os.environ.get("WASD_SHARED", os.path.join(TOP, "..", "shared"))
SANITIZED = os.path.basename(BUILD) in ("asan", "tsan")
SLOWER = 6 if SANITIZED else 1                     # sanitizers make everything several times slower
PATIENCE = 4 * SLOWER                             # for limits that only bound a failure: a machine that stalls for seconds has not failed


class Stopwatch:
    """Seconds since the stopwatch was created, minus the time that this process was kept from running meanwhile."""
    stalled = 0.0

    def __init__(self):
        self.began, self.before = time.monotonic(), Stopwatch.stalled

    def s(self):
        return time.monotonic() - self.began - (Stopwatch.stalled - self.before)

    @staticmethod
    def watch():
        while True:
            t = time.monotonic()
            time.sleep(0.02)
            late = time.monotonic() - t - 0.02
            if late > 0.05:
                Stopwatch.stalled += late


threading.Thread(target=Stopwatch.watch, daemon=True).start()


# ---- reporting -------------------------------------------------------------------------------------------------------------

failures = 0


@contextlib.contextmanager
def case(name):
    """Prints one line per case; a failure inside is printed and the next case runs."""
    global failures
    try:
        yield
    except Skip as why:
        print(f"skip {name}: {why}", flush=True)
    except Exception:
        for line in traceback.format_exc().splitlines():
            print("#", line)
        print(f"not ok {name}", flush=True)
        failures += 1
    else:
        print(f"ok {name}", flush=True)


class Skip(Exception):
    """Raised inside a case that cannot run here."""


def finish():
    sys.exit(1 if failures else 0)


def equal(got, want, what=""):
    if got != want:
        raise AssertionError(f"{what + ': ' if what else ''}got {got!r}, want {want!r}")


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def directory():
    d = tempfile.mkdtemp(prefix="wasd-test-")
    atexit.register(shutil.rmtree, d, ignore_errors=True)
    return d


# curl as used by a reader of the documents, but strict: a failed request ends the shell, and a request with wait= is repeated until its condition holds.
CURL = """set -e
curl() {
	while :; do
		answer=$(set +e; command curl -sS --fail-with-body --max-time 150 "$@"; printf '\\n%s' "$?")
		code=${answer##*
}
		printf %s "${answer%"$code"}"
		[ "$code" = 0 ] || { echo "failed: curl $*" >&2; exit 1; }
		case "$*" in *[?\\&]wait=*) ;; *) return ;; esac
		printf %s "$answer" | grep -qE '"state":"(queued|starting|running|retry_wait|scanning|searching|created|loading|warming)"' || return 0
	done
}
"""


def pasted(blocks, port, where):
    """Runs the shell blocks of a document, one after the other, in the directory `where`; returns their output."""
    script = "".join(blocks)
    equal(script.count("W=http://127.0.0.1:8080\n"), 1, "where the document names the daemon")
    script = CURL + script.replace("W=http://127.0.0.1:8080", f"W=http://127.0.0.1:{port}")
    done = subprocess.run(["sh", "-c", script], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300 * PATIENCE)
    equal(done.returncode, 0, done.stdout[-3000:])
    return done.stdout


def learned(said, least=0.9):
    """Checks that the output of a document's blocks has a best checkpoint with test accuracies above `least` in both modes. The first job that is
    completed counts: a machine may be so slow that it was asked for before."""
    best = re.search(r'"state":\s*"completed",(?:(?!"state":).)*?"best":\s*(\{.*?\}\s*\})', said, re.S)
    for mode in ("aom", "dom"):
        found = re.search(rf'"test_acc_{mode}":\s*([0-9.]+)', best.group(1)) if best else None
        check(found and float(found.group(1)) > least, f"test accuracy of the best epoch in {mode.upper()}: {found.group(1) if found else 'not there'}")


# ---- HTTP --------------------------------------------------------------------------------------------------------------------

class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


class Client:
    """One keep-alive connection. Only one thread may use it at a time."""

    def __init__(self, port, timeout=60 * PATIENCE):
        self.port, self.timeout, self.connection = port, timeout, None

    def request(self, method, path, body=None, headers=None, want=None):
        """body: bytes, a binary file, or an object to be sent as JSON. want: the expected status (or several)."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, bytearray)) and not hasattr(body, "read"):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        fresh = self.connection is None
        if fresh:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            self.connection.request(method, path, body, headers)
            r = self.connection.getresponse()
            reply = Reply(r.status, r.headers, r.read())
            if r.will_close:
                self.close()
        except (OSError, http.client.HTTPException):
            self.close()
            if fresh or hasattr(body, "read"):
                raise
            return self.request(method, path, body, headers, want)    # the server closed an idle connection
        if want is not None and reply.status not in (want if isinstance(want, (tuple, list, set)) else (want,)):
            raise AssertionError(f"{method} {path}: got {reply!r}, want {want}")
        return reply

    def get(self, path, want=200, **kw):
        return self.request("GET", path, want=want, **kw)

    def post(self, path, body=None, want=(200, 201, 202), **kw):
        return self.request("POST", path, body, want=want, **kw)

    def put(self, path, body=None, want=(200, 201, 202), **kw):
        return self.request("PUT", path, body, want=want, **kw)

    def delete(self, path, want=(200, 202, 204), **kw):
        return self.request("DELETE", path, want=want, **kw)

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


Event = collections.namedtuple("Event", "id type data")


class Events:
    """Server-sent events, read by a thread into a queue; until() waits for a matching event."""

    def __init__(self, port, path="/v1/events", last_id=None):
        self.queue, self.seen = queue.Queue(), []
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.connection.request("GET", path, headers={"Accept": "text/event-stream", **({"Last-Event-ID": str(last_id)} if last_id is not None else {})})
        self.response = self.connection.getresponse()
        equal(self.response.status, 200, path)
        self.socket = self.connection.sock or self.response.fp.raw._sock
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        fields = collections.defaultdict(str)
        try:
            while line := self.response.readline():
                line = line.decode().rstrip("\r\n")
                if line.startswith(":"):
                    continue
                if line:
                    name, _, value = line.partition(":")
                    fields[name] += ("\n" if fields[name] else "") + value.removeprefix(" ")
                elif fields:
                    if "data" in fields or "event" in fields:
                        self.queue.put(Event(fields["id"], fields["event"] or "message", json.loads(fields["data"] or "null")))
                    fields.clear()
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass
        self.queue.put(None)

    def next(self, timeout):
        event = self.queue.get(timeout=timeout)
        if event is None:
            raise AssertionError("the event stream ended")
        self.seen.append(event)
        return event

    def until(self, predicate, timeout=120, what="the event"):
        end = time.monotonic() + timeout * PATIENCE
        while True:
            try:
                event = self.next(max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{what} did not come; last events: {self.seen[-5:]}") from None
            if predicate(event):
                return event

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(2)
        self.connection.close()


# ---- the daemon ----------------------------------------------------------------------------------------------------------------

class Daemon:
    """build/wasd serve on a free port of 127.0.0.1. `with Daemon() as d:` stops it; start() after kill() continues with the same data."""

    def __init__(self, data=None, args=(), env=None):
        self.data = data or os.path.join(directory(), "data")
        self.args, self.env, self.process, self.port = list(args), dict(os.environ, **(env or {})), None, None
        self.log = tempfile.TemporaryFile("a+b")       # the daemon's place in the file is this one's, too: it must append wherever messages() has read
        self.start()

    def start(self, timeout=30):
        self.process = subprocess.Popen([os.path.join(BUILD, "wasd"), "serve", "--listen", "127.0.0.1:0", "--data", self.data, *self.args],
                                        stdout=subprocess.PIPE, stderr=self.log, env=self.env, start_new_session=True)
        timer = threading.Timer(timeout * PATIENCE, self.process.kill)
        timer.start()
        for line in self.process.stdout:
            if m := re.search(rb"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(m.group(1))
                break
        else:
            raise AssertionError(f"wasd serve did not start: exit status {self.process.wait()}\n{self.messages()}")
        timer.cancel()
        threading.Thread(target=self.process.stdout.read, daemon=True).start()    # nothing may block on a full pipe
        self.client = Client(self.port)
        return self

    def messages(self, last=4000):
        self.log.seek(0, 2)
        self.log.seek(max(0, self.log.tell() - last))
        return self.log.read().decode(errors="replace")

    @property
    def pid(self):
        return self.process.pid

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def engines(self, role):
        """Process ids of the daemon's wasd-engine children of that role (train, infer, ingest)."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{pid}/stat") as f:
                    parent = int(f.read().rpartition(")")[2].split()[1])
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                if parent == self.pid and os.path.basename(words[0]) == b"wasd-engine" and role.encode() in words[1:]:
                    found.append(int(pid))
        return found

    def import_network(self, name, net, tensors, classes, shape):
        """Deploys a custom network with the given weights, without training. tensors as for write_safetensors; shape: [c, h, w]."""
        blob = write_safetensors(tensors)
        sha256 = hashlib.sha256(blob).hexdigest()
        self.client.put(f"/v1/blobs/{sha256}", blob)
        self.client.post("/v1/deployments", {"name": name, "source": {"blob": sha256, "model": net, "classes": classes, "input": shape}})
        return self.wait_deployment(name)

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        """kill -9, as the kernel's out-of-memory killer would."""
        self.client.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout=60):
        self.client.close()
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"wasd did not end within {timeout} s of SIGTERM\n{self.messages()}") from None
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and self.log:
            sys.stdout.write("".join(f"# {line}\n" for line in self.messages().splitlines()[-25:]))
        status = self.stop()
        if kind is None:
            equal(status, 0, "exit status of wasd serve after SIGTERM")

    # ---- helpers of nearly every test

    def glyphs(self, name="glyphs", train=1000, test=200, seed=1, want="ready"):
        self.client.post("/v1/datasets", {"name": name, "synthetic": {"kind": "glyphs", "train": train, "test": test, "seed": seed}})
        return self.wait_dataset(name, want)

    def wait_dataset(self, name, want="ready", timeout=120):
        end = time.monotonic() + timeout * PATIENCE
        while True:
            d = self.client.get(f"/v1/datasets/{name}?wait=30s").json
            if d["state"] != "scanning":
                equal(d["state"], want, f"data set {name}: {d}")
                return d
            check(time.monotonic() < end, f"data set {name} is still being read after {timeout} s")

    def submit(self, **spec):
        return self.client.post("/v1/jobs", spec, want=201).json

    def wait_job(self, job, want="completed", timeout=300):
        end = time.monotonic() + timeout * PATIENCE
        while True:
            j = self.client.get(f"/v1/jobs/{job}?wait=30s&until=terminal").json
            if j["state"] in ("completed", "failed", "cancelled"):
                if j["state"] != want:
                    log = self.client.get(f"/v1/jobs/{job}/logs?tail=20", want=None)
                    raise AssertionError(f"job is {j['state']} ({j.get('reason')}: {j.get('message')}), want {want}\n{log.body.decode(errors='replace')}")
                return j
            check(time.monotonic() < end, f"job is still {j['state']} after {timeout} s: {j.get('progress')}")

    def wait_sweep(self, sweep, *states, such=lambda w: True):
        """Waits for one of the states of a sweep, and for what `such` says of it."""
        reply = self.client.get(f"/v1/sweeps/{sweep}")
        while reply.json["state"] not in states or not such(reply.json):
            check(reply.json["state"] not in ("completed", "failed", "cancelled"), f"sweep {sweep} is {reply.json['state']}: {reply.json['message']}")
            next_reply = self.client.get(f"/v1/sweeps/{sweep}?wait=60s&until=change", headers={"If-None-Match": reply.headers["ETag"]}, want=(200, 304))
            if next_reply.status == 200:
                reply = next_reply
        return reply.json

    def wait_results(self, sweep, n):
        """Waits until the sweep has taken n results, or is over."""
        seen = 0

        def enough(e):
            nonlocal seen
            seen += e.type == "sweep.trial" and e.data["id"] == sweep and e.data["what"] == "result"
            return seen >= n or (e.type == "sweep.state" and e.data["id"] == sweep and e.data["to"] == "completed")
        events = Events(self.port, "/v1/events?topics=sweeps", last_id=0)
        try:
            events.until(enough, timeout=600 * PATIENCE, what=f"{n} results")
        finally:
            events.close()

    def series(self, job, names=""):
        """{metric: {epoch: value}}"""
        reply = self.client.get(f"/v1/jobs/{job}/metrics" + (f"?names={names}" if names else "")).json
        return {s["name"]: {p[1]: p[3] for p in s["points"]} for s in reply["series"]}

    def deploy(self, name, job, mode="aom", follow="best", timeout=60):
        self.client.post("/v1/deployments", {"name": name, "source": {"job": job, "follow": follow}, "mode": mode}, want=(201, 202))
        return self.wait_deployment(name, timeout=timeout)

    def wait_deployment(self, name, want="ready", timeout=60):
        events = Events(self.port, "/v1/events?topics=deployments")
        try:
            end = time.monotonic() + timeout * PATIENCE
            while True:
                d = self.client.get(f"/v1/deployments/{name}").json
                if d["state"] == want:
                    return d
                check(d["state"] != "failed", f"deployment {name} failed: {d}")
                check(time.monotonic() < end, f"deployment {name} is still {d['state']}")
                with contextlib.suppress(queue.Empty):
                    events.next(1.0)
        finally:
            events.close()


def exact(values):
    """A job's series with exact floats, to the last bit."""
    return {name: {epoch: v.hex() if isinstance(v, float) else v for epoch, v in points.items()} for name, points in values.items()}


def integrity(data):
    """Checks both databases on a copy of what a dead daemon left, including the log. Returns the number of jobs in each state."""
    copy = directory()
    for path in glob.glob(os.path.join(data, "*.db*")):
        shutil.copy(path, copy)
    for path in sorted(glob.glob(os.path.join(copy, "*.db"))):
        db = sqlite3.connect(path)
        equal(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)], os.path.basename(path))
        equal(db.execute("PRAGMA foreign_key_check").fetchall(), [], os.path.basename(path))
        if os.path.basename(path) == "wasd.db":
            states = dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
        db.close()
    shutil.rmtree(copy)
    return states


class Disk:
    """A tmpfs of its own, of `mib` MiB; only in a mount namespace (unshare -Urm)."""

    def __init__(self, path, mib):
        self.path, self.filler = path, os.path.join(path, "filler")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", path], check=True)

    def free(self):
        v = os.statvfs(self.path)
        return v.f_bavail * v.f_frsize

    def leave(self, free):
        """Makes the filler longer or shorter until so many bytes are free, in whole pages; others may write meanwhile."""
        with open(self.filler, "ab") as f:
            for _ in range(20):
                now, size = self.free(), os.fstat(f.fileno()).st_size
                if now == free:
                    return
                if now < free:
                    f.truncate(max(0, size - (free - now)))
                else:
                    with contextlib.suppress(OSError):
                        os.posix_fallocate(f.fileno(), size, now - free)

    def leave_all(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.filler)


# ---- images, archives, files ------------------------------------------------------------------------------------------------------

def ranking(sweep):
    """What must be the same for two runs of a sweep: the order of its trials, with their values to the last bit."""
    def exact(value):
        return value if value is None else value.hex()
    return [(t["rank"], t["trial"], t["state"], t["reason"], exact(t["value"]), [(r["epoch"], exact(r["value"])) for r in t["rungs"]], t["values"])
            for t in sweep["trials"]]


def png(width, height, pixel, channels=3):
    """A PNG; pixel(x, y) returns `channels` bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def noise_png(seed, side=32):
    r = random.Random(seed)
    return png(side, side, lambda x, y: (r.randrange(256), r.randrange(256), r.randrange(256)))


def tar(entries, mode="w"):
    """Bytes of a tar of [(name, bytes), ...]; mode "w:gz" for a compressed one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.USTAR_FORMAT) as t:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def cifar_subset(train, test):
    """A tar of the first images of every class of WASD_SHARED/data/cifar10-images.tar.gz, read as a stream."""
    path = os.path.join(SHARED, "data", "cifar10-images.tar.gz")
    if not os.path.exists(path):
        raise Skip("the CIFAR-10 archive is not in WASD_SHARED/data")
    want = {"train": train // 10, "test": test // 10}
    have, entries = collections.Counter(), []
    with tarfile.open(path, "r|gz") as t:
        for info in t:
            split, _, rest = info.name.removeprefix("./").partition("/")
            kind = (split, rest.partition("/")[0])
            if info.isfile() and split in want and have[kind] < want[split]:
                have[kind] += 1
                entries.append((info.name, t.extractfile(info).read()))
            if len(entries) == 10 * (want["train"] + want["test"]):
                break
    equal(len(entries), 10 * (want["train"] + want["test"]), "images found in the archive")
    return entries


def multipart(parts):
    """(content type, body) of [(field, file name or None, content type or None, bytes), ...]."""
    boundary = "wasd-test-boundary-7f3a"
    body = b""
    for field, filename, kind, data in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"'.encode()
        body += (f'; filename="{filename}"'.encode() if filename else b"") + b"\r\n"
        body += (f"Content-Type: {kind}\r\n".encode() if kind else b"") + b"\r\n" + data + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def safetensors(data):
    """(metadata, {name: (dtype, shape, bytes)}) of a file, every range checked."""
    n, = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8:8 + n]), data[8 + n:]
    meta = header.pop("__metadata__", {})
    sizes = {"F32": 4, "F64": 8, "U64": 8, "I64": 8, "U32": 4, "I32": 4, "U8": 1}
    tensors, covered = {}, 0
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = t["data_offsets"]
        count = 1
        for d in t["shape"]:
            count *= d
        equal(begin, covered, f"{name}: begin")
        equal(end - begin, count * sizes[t["dtype"]], f"{name}: size")
        tensors[name] = (t["dtype"], t["shape"], body[begin:end])
        covered = end
    equal(covered, len(body), "bytes after the last tensor")
    return meta, tensors


def write_safetensors(tensors, meta=None):
    """The bytes of a safetensors file of {name: (dtype, shape, bytes)}."""
    header, at = ({"__metadata__": meta} if meta else {}), 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())
