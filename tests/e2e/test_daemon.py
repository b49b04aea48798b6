"""The daemon as a process: start, refusal to start, addresses, bad HTTP framing over raw sockets, slow clients, and every kind of shutdown."""
import json, os, re, select, signal, socket, subprocess, time
from lib import *

HOST = b"Host: x\r\n"


def dial(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10 * PATIENCE)


def ask(port, data, patience=3):
    """The response until the server closes or is silent for this long; and whether it closed."""
    with dial(port) as s:
        s.sendall(data)
        got, closed = b"", False
        while select.select([s], [], [], patience)[0]:
            try:
                piece = s.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                closed = True
                break
            got += piece
        return got, closed


def status(answer):
    m = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return int(m.group(1)) if m else 0


def serve(*args, env=None, data=None):
    """Runs a wasd serve that is expected to exit: (status, stderr)."""
    p = subprocess.run([os.path.join(BUILD, "wasd"), "serve", "--listen", "127.0.0.1:0", "--data", data or os.path.join(directory(), "data"), *args],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60 * PATIENCE, env=dict(os.environ, **(env or {})))
    return p.returncode, p.stderr.decode(errors="replace")


def ended_within(d, seconds):
    try:
        return d.process.wait(seconds * PATIENCE)
    except subprocess.TimeoutExpired:
        d.process.kill()
        d.process.wait()
        raise AssertionError(f"still there after {seconds} s\n{d.messages()}") from None


with case("it prints its address, writes it to a file, and answers"):
    with Daemon() as d:
        with open(os.path.join(d.data, "wasd.addr")) as f:
            equal(f.read().strip(), f"127.0.0.1:{d.port}")
        equal(d.client.get("/healthz").json["status"], "ok")
        page = d.client.get("/")
        check(page.headers["Content-Type"].startswith("text/html"), page.headers["Content-Type"])
        check("default-src 'self'" in page.headers["Content-Security-Policy"], "the page has a content security policy")
        equal(page.headers["X-Content-Type-Options"], "nosniff")
        again = d.client.get("/", want=304, headers={"If-None-Match": page.headers["ETag"]})
        equal(again.body, b"")
        script = d.client.get("/ui/app.js")
        check(script.headers["Content-Type"].startswith("text/javascript"), script.headers["Content-Type"])
        small = d.client.get("/", headers={"Accept-Encoding": "gzip"})
        equal(small.headers["Content-Encoding"], "gzip")
        check(len(small.body) < len(page.body), "gzip makes it smaller")
        out = subprocess.run([os.path.join(BUILD, "wasd"), "status", "--url", f"http://127.0.0.1:{d.port}"], stdout=subprocess.PIPE, check=True).stdout
        check(b"workers busy" in out, out)

with case("wasd status finds the daemon of wasd serve and of the quickstart, even beside the stale address of a killed one"):
    for place, dead in (("var", None), ("var/data", None), ("var/data", "var")):
        top = directory()
        with Daemon(data=os.path.join(top, place)) as d:
            if dead:
                with open(os.path.join(top, dead, "wasd.addr"), "w") as f:
                    f.write("127.0.0.1:1\n")
            out = subprocess.run([os.path.join(BUILD, "wasd"), "status"], cwd=top, capture_output=True, text=True)
            check(out.returncode == 0 and os.path.realpath(d.data) in out.stdout, f"{place}: {out}")
    for url in ("127.0.0.1:99999", "127.0.0.1:8o80", "127.0.0.1:-1", "127.0.0.1:", ":80"):
        out = subprocess.run([os.path.join(BUILD, "wasd"), "status", "--url", url], capture_output=True, text=True)
        check(out.returncode == 1 and f"{url} is not an address" in out.stderr, f"{url}: {out}")

with case("the temporary files of a killed daemon are removed"):
    data = os.path.join(directory(), "data")
    left = [os.path.join(data, f) for f in ("wasd.addr.tmp-a1B2c3", "staging/up-1", "exports/ckpt_1.aom.onnx.tmp-a1B2c3", "datasets/d/1.wds.tmp-01M8N9QKJ07TC3YFP6MZZ586DS")]
    for f in left:
        os.makedirs(os.path.dirname(f), exist_ok=True)
        open(f, "w").close()
    with Daemon(data=data):
        equal([f for f in left if os.path.exists(f)], [])

with case("it refuses to start with one clear line"):
    with Daemon() as d:
        status_, text = serve(data=d.data)
        equal(status_, 1)
        check(str(d.pid) in text, text)
    for args, env, culprit in [
        (["--listen", "127.0.0.1"], {}, "ADDR:PORT"), (["--listen", "127.0.0.1:99999"], {}, "0 to 65535"), (["--listen", "127.0.0.1: 80"], {}, "0 to 65535"),
        (["--listen", "0.0.0.0:0"], {}, "submit jobs and read, replace or delete data"), (["--listen", "[::]:0"], {}, "--insecure"), (["--insecure=maybe"], {}, "insecure must be yes or no"),
        (["--workers", " 1"], {}, "workers"), (["--workers", "+1"], {}, "workers"), (["--workers", "1e0"], {}, "workers"), (["--workers", "99999999999999999999"], {}, "workers"), (["--listen", "256.1.1.1:80"], {}, "256.1.1.1"), (["--workers", "0"], {}, "workers"),
        (["--workers", "many"], {}, "many"), (["--colour", "red"], {}, "colour"), (["--engine", "/nonexistent/engine"], {}, "/nonexistent/engine"),
        ([], {"WASD_ENGINE": "/nonexistent/engine"}, "/nonexistent/engine"), (["--engine", "/bin/false"], {}, "/bin/false"), (["stray"], {}, "stray"),
        (["--data"], {}, "--data"),
    ]:
        status_, text = serve(*args, env=env)
        check(status_ in (1, 2), f"{args}: status {status_}")
        check(culprit in text, f"{args}: {culprit!r} is not in {text!r}")
    conf = os.path.join(directory(), "wasd.conf")
    for text_, culprit in [("# fine\nworkers = 2\ncolor = red\n", "line 3: unknown setting color"), ("workers\n", "line 1"), ("\nworkers = -1\n", "line 2: workers"),
                            ("listen = 127.0.0.1:65536\n", "line 1: listen"), ("insecure = 1\n", "line 1: insecure")]:
        with open(conf, "w") as f:
            f.write(text_)
        status_, text = serve("--config", conf)
        equal(status_, 2)
        check(culprit in text, f"{culprit!r} is not in {text!r}")

with case("a settings file is read, the command line wins"):
    conf = os.path.join(directory(), "wasd.conf")
    with open(conf, "w") as f:
        f.write("# of this test\nworkers = 3\n  threads = 5  \n")
    with Daemon(args=["--config", conf, "--workers", "2"]) as d:
        system = d.client.get("/v1/system").json
        equal(system["workers"]["total"], 2)
        equal(system["threads"], 5)

with case("request smuggling is rejected and the connection closed"):
    with Daemon() as d:
        second = b"POST /v1/datasets HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 87\r\n\r\n" + \
            b'{"name":"smuggled","synthetic":{"kind":"glyphs","train":100,"test":50,"seed":1}}      '
        wrong = []
        for head, want in [
            (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400), (b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
            (b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}", 400), (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400), (b"Content-Length : 2\r\n\r\n{}", 400),
            (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501), (b"Transfer-Encoding: identity\r\n\r\n", 501), (b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
            (b"Content-Length: 2, 2\r\n\r\n{}", 400), (b"Content-Length: -1\r\n\r\n", 400), (b"Content-Length: 99999999999999999999\r\n\r\n", 413),
            (b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n", 400),
        ]:
            answer, closed = ask(d.port, b"POST /v1/jobs HTTP/1.1\r\n" + HOST + head + second)
            if status(answer) != want or not closed:
                wrong.append(f"{head!r}: status {status(answer)}, want {want}, closed {closed}")
        check(not wrong, "\n".join(wrong))
        d.client.get("/v1/datasets/smuggled", want=404)

with case("a thousand one-byte chunks, pipelined requests, a half-closed client"):
    with Daemon() as d:
        body = b'{"dataset":"none","model":{"arch":"lenet"}}'
        answer, _ = ask(d.port, b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                        + b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n")
        check(status(answer) in (404, 422), answer)
        answer, closed = ask(d.port, (b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n") * 50, patience=1)
        equal(answer.count(b"HTTP/1.1 200"), 50)
        check(not closed, "keep-alive")
        others = [dial(d.port) for _ in range(8)]           # with other requests in every HTTP thread
        for s in others:
            s.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            equal(status(s.recv(4096)), 200)
        for request, want in ((b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"\r\n", 200),
                              (b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 422)):
            for _ in range(20):
                with dial(d.port) as s:
                    s.sendall(request)
                    s.shutdown(socket.SHUT_WR)
                    got = b""
                    while piece := s.recv(65536):
                        got += piece
                    equal(status(got), want)

SLOW = (b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n{", b"GET /healthz HT")
with case("slow clients are disconnected at the deadline, without effect on others"):
    with Daemon(args=["--header-timeout-ms", "1000", "--slow-after-ms", "1000", "--idle-timeout-ms", "3000"]) as d:
        slow = [dial(d.port) for _ in range(60)]
        began = time.monotonic()
        for i, s in enumerate(slow):
            s.sendall(SLOW[i % 2])
        while slow and time.monotonic() - began < 60 * PATIENCE:
            d.client.get("/healthz")
            for s in select.select(slow, [], [], 0.05)[0]:
                if not s.recv(4096):
                    slow.remove(s)
                    s.close()
        check(not slow, f"{len(slow)} slow clients are still connected")
    with Daemon(args=["--header-timeout-ms", "600000", "--slow-after-ms", "600000"]) as d:
        slow = [dial(d.port) for _ in range(60)]
        for i, s in enumerate(slow):
            s.sendall(SLOW[i % 2])
        for _ in range(20):                               # none waits for a slow client, which would take ten minutes
            d.client.get("/healthz")
        for s in slow:
            s.close()

with case("connections above the limit get an immediate answer"):
    with Daemon(args=["--max-connections", "40"]) as d:
        held = [dial(d.port) for _ in range(60)]
        told = 0
        for s in held:
            s.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            told += status(s.recv(4096)) == 503
        equal(told, 60 - 36)
        for s in held:
            s.close()
        end = time.monotonic() + 30 * PATIENCE
        left = None
        while left != 1 and time.monotonic() < end:         # the held connections are gone once the daemon has seen them close
            answer = d.client.request("GET", "/v1/system")
            left = answer.json["http"]["connections"] if answer.status == 200 else None
        equal(left, 1)

with case("short-lived clients leave nothing behind"):
    with Daemon() as d:
        d.client.get("/v1/jobs")
        before = d.descriptors()
        for i in range(300):
            s = dial(d.port)
            if i % 3 == 0:
                s.sendall(b"GET /v1/events HTTP/1.1\r\n" + HOST + b"\r\n")
            elif i % 3 == 1:
                s.sendall(b"PUT /v1/datasets/cut HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\nxxxx")
            s.close()
        end = time.monotonic() + 30 * PATIENCE
        staging = os.path.join(d.data, "staging")
        while (d.client.get("/v1/system").json["http"]["connections"] > 1 or d.descriptors() > before or os.listdir(staging)) and time.monotonic() < end:
            time.sleep(0.05)
        equal(d.client.get("/v1/system").json["http"]["event_streams"], 0)
        check(d.descriptors() <= before + 2, f"{d.descriptors()} descriptors, {before} before")
        equal(os.listdir(staging), [])

with case("SIGTERM with 150 open event streams and 20 long polls: all end cleanly, status 0"):
    d = Daemon()
    d.glyphs(train=200, test=50)
    streams = [dial(d.port) for _ in range(150)]
    for s in streams:
        s.sendall(b"GET /v1/events HTTP/1.1\r\n" + HOST + b"\r\n")
        check(status(s.recv(4096)) == 200, "the stream is open")
    polls = [dial(d.port) for _ in range(20)]
    d.process.send_signal(signal.SIGSTOP)                 # so that all of them are waiting when the test continues
    d.process.send_signal(signal.SIGCONT)
    d.process.send_signal(signal.SIGTERM)
    equal(ended_within(d, 10), 0)
    for s in streams:
        got = b""
        while piece := s.recv(65536):
            got += piece
        check(got.endswith(b"0\r\n\r\n"), f"a stream was cut: {got[-80:]!r}")
    for s in streams + polls:
        s.close()

with case("SIGINT and a storm of signals stop it with status 0"):
    d = Daemon()
    d.process.send_signal(signal.SIGHUP)
    d.client.get("/healthz")
    d.process.send_signal(signal.SIGINT)
    equal(ended_within(d, 10), 0)
    d = Daemon(data=d.data)
    for _ in range(20):
        for sig in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            d.process.send_signal(sig)
    equal(ended_within(d, 3), 0)
    d = Daemon(data=d.data)                                  # and the directory is intact
    equal(d.stop(), 0)

with case("SIGTERM during a job: checkpoint, queued, and resumed after the start"):
    d = Daemon()
    d.glyphs(train=3000, test=200)
    job = d.submit(dataset="glyphs", model={"arch": "lenet"}, train={"epochs": 100000, "batch": 32})["id"]      # it does not end by itself
    Events(d.port, f"/v1/jobs/{job}/events", last_id=0).until(lambda e: e.type == "job.checkpoint", what="the first checkpoint")
    d.process.send_signal(signal.SIGTERM)
    equal(ended_within(d, 45), 0)
    d.start()
    j = d.client.get(f"/v1/jobs/{job}").json
    check(j["state"] in ("queued", "starting", "running"), f"job is {j['state']}")
    n = max(d.series(job, "train_loss")["train_loss"]) + 2
    Events(d.port, f"/v1/jobs/{job}/events", last_id=0).until(lambda e: e.type == "job.checkpoint" and e.data["epoch"] >= n, what="two epochs more")
    d.client.post(f"/v1/jobs/{job}:cancel", {"mode": "kill"})
    d.wait_job(job, "cancelled")
    equal([a["outcome"] for a in d.client.get(f"/v1/jobs/{job}").json["attempts"]], ["interrupted", "cancelled"])
    epochs = sorted(d.series(job, "train_loss")["train_loss"])
    equal(epochs, list(range(1, len(epochs) + 1)))
    check(len(epochs) >= n, f"{len(epochs)} epochs")
    equal(d.stop(), 0)

with case("a second SIGTERM stops it before its job has had its time to end; kill -9 also ends its engines"):
    d = Daemon()
    d.glyphs(train=3000, test=200)
    job = d.submit(dataset="glyphs", model={"arch": "resnet18"}, train={"epochs": 50, "batch": 64})["id"]
    Events(d.port, f"/v1/jobs/{job}/events", last_id=0).until(lambda e: e.type == "job.state" and e.data.get("to", e.data.get("state")) == "running", what="the job to run")
    engines = d.engines("train")
    equal(len(engines), 1)
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    d.process.send_signal(signal.SIGTERM)
    ended_within(d, 5)
    end = time.monotonic() + 10 * PATIENCE
    while any(os.path.exists(f"/proc/{p}") for p in engines) and time.monotonic() < end:
        time.sleep(0.05)
    check(not any(os.path.exists(f"/proc/{p}") for p in engines), "its engine has ended, too")
    d.start()
    d.client.post(f"/v1/jobs/{job}:cancel", {"mode": "kill"})
    d.wait_job(job, "cancelled")
    equal(d.stop(), 0)

with case("it notifies systemd: ready, alive, stopping"):
    path = os.path.join(directory(), "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(20 * PATIENCE)
        d = Daemon(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "900000"})
        equal(s.recv(100), b"READY=1")
        equal(s.recv(100), b"WATCHDOG=1")
        equal(s.recv(100), b"WATCHDOG=1")
        d.process.terminate()
        while (word := s.recv(100)) == b"WATCHDOG=1":
            pass
        equal(word, b"STOPPING=1")
        equal(ended_within(d, 10), 0)

finish()
