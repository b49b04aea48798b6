#!/usr/bin/python3
"""The commands on jobs, as a user types them: submit, jobs, watch, wait, logs, clone, cancel. What they print is compared with what the API answers; the
exit status of submit --watch, watch and wait is the job's outcome."""
import json, os, pty, re, select, subprocess

from lib import BUILD, PATIENCE, Daemon, case, check, directory, equal, finish

WASD = os.path.join(BUILD, "wasd")
LENET = ("--set", "dataset=glyphs", "--set", "model.arch=lenet")
SHORT = (*LENET, "--set", "train.epochs=2", "--set", "train.batch=50", "--set", "was.layers=all")
LONG = (*LENET, "--set", "train.epochs=20000", "--set", "train.batch=50", "--set", "was=false")


def env():
    return dict(os.environ, WASD_URL=f"http://127.0.0.1:{d.port}")


def wasd(*args, rc=0, stdin=None):
    """stdout and stderr of the command."""
    p = subprocess.run([WASD, *args], input=stdin, capture_output=True, text=True, timeout=120 * PATIENCE, env=env())
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout, p.stderr


def spec(*args, **kw):
    return json.loads(wasd("submit", *args, "--dry-run", "--quick", "--json", **kw)[0])


def on_terminal(*args):
    """Output and exit status of a command whose stdout is a terminal of 90 columns."""
    main, side = pty.openpty()
    subprocess.run(["stty", "cols", "90"], stdin=side, check=True)
    p = subprocess.Popen([WASD, *args], stdin=side, stdout=side, stderr=side, env=dict(env(), LC_ALL="C.UTF-8"))
    os.close(side)
    out = b""
    while select.select([main], [], [], 60 * PATIENCE)[0]:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.close(main)
    return out.decode(), p.wait(60 * PATIENCE)


def epoch_lines(job, epochs, first=1):
    """What watch prints for these epochs."""
    s = d.series(job, "train_loss,train_acc,val_acc_aom,val_acc_dom,images_per_s")
    lines = []
    for e in range(first, epochs + 1):
        line = f"epoch {e}/{epochs}  loss {s['train_loss'][e]:.4f}"
        for metric, name in (("train_acc", "train"), ("val_acc_aom", "AOM"), ("val_acc_dom", "DOM")):
            if e in s.get(metric, {}):
                line += f"  {name} {100 * s[metric][e]:.1f} %"
        lines.append(f"{line}  {s['images_per_s'][e]:.0f} images/s")
    return lines


def end_line(job):
    j = d.client.get(f"/v1/jobs/{job}").json
    return f"{job} is {j['state']}; best epoch {j['best']['epoch']}, val_acc_aom {j['best']['value']:.4f}, {j['best']['checkpoint']}"


with Daemon() as d:
    c = d.client
    d.glyphs(train=200, test=50)

    with case("submit: --set by dotted path and by pointer, JSON and plain values, lists, a file and standard input"):
        s = spec(*LENET, "--set", "train.epochs=3", "--set", "/train/seed=7", "--set", "name=my first", "--set", "labels.team=vision", "--set", "was=false",
                 "--set", 'train.optimizer={"type":"adamw","lr":0.01}', "--set", "train.optimizer.lr=0.02", "--set", "note=a=b", "--set", "/labels/a~1b=1x")
        equal((s["train"]["epochs"], s["train"]["seed"], s["name"], s["was"], s["note"]), (3, 7, "my first", False, "a=b"))
        equal((s["train"]["optimizer"]["type"], s["train"]["optimizer"]["lr"], s["labels"]), ("adamw", 0.02, {"team": "vision", "a/b": "1x"}))
        path = os.path.join(directory(), "spec.json")
        base = {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": {"layers": "all", "transforms": [{"type": "translate", "x": 0.3}]}}
        with open(path, "w") as f:
            json.dump(base, f)
        s = spec(path, "--set", "was.transforms.0.x=0.2", "--set", "was.transforms.-.type=translate", "--set", "was.transforms.1.weight=2")
        equal([(t["x"], t["weight"]) for t in s["was"]["transforms"]], [(0.2, 1), (0.3, 2)])
        equal(spec("-", stdin=json.dumps(base))["model"]["arch"], "lenet")
        equal(c.get("/v1/jobs").json["items"], [], "a dry run submits nothing")

    with case("submit --dry-run: a table of what the job would take"):
        said = wasd("submit", *LENET, "--set", "limits.memory_mb=1", "--dry-run")[0]
        rows = {line[:24].strip(): line[25:] for line in said.splitlines()}
        equal(set(rows) >= {"Job", "Parameters", "Multiply-adds per image", "Images", "Steps", "Memory", "activations", "Checkpoints kept", "Time", "Start", "Warning"}, True, said)
        equal((rows["Time"], rows["Warning"].startswith("it needs about ")), ("unknown: it would not fit into memory", True))
        rows = {line[:24].strip(): line[25:] for line in wasd("submit", *LENET, "--dry-run")[0].splitlines()}
        check(rows["Step"].endswith(" images/s") and rows["Measured"].endswith(" other jobs train") and "Time" not in rows, str(rows))
        check(wasd("submit", *LENET, "--quick", rc=2)[1].startswith("wasd submit: --quick"), "it needs --dry-run")

    with case("submit: faults by pointer, nothing submitted; wrong usage is status 2"):
        _, err = wasd("submit", *LENET, "--set", "train.epochs=0", "--set", "trian=1", rc=1)
        equal(err, "wasd submit: /trian is not a known field\nwasd submit: /train/epochs must be a whole number from 1 to 100000, not 0\n")
        equal(wasd("submit", "--set", "dataset=none", "--set", "model.arch=lenet", rc=1)[1].count("\n"), 1)
        for args in ((), ("a", "b"), (*LENET, "--set"), (*LENET, "--set", "train"), (*LENET, "--set", "=1"), (*LENET, "--watch", "--wait"), ("none.json",),
                     (*LENET, "--set", "was.transforms=[]", "--set", "was.transforms.3.x=1"), (*LENET, "--fast")):
            check(wasd("submit", *args, rc=2)[1].startswith("wasd submit: "), str(args))
        equal(c.get("/v1/jobs").json["items"], [])

    with case("submit --watch, not on a terminal: the id, a line per epoch, the outcome"):
        out, _ = wasd("submit", *SHORT, "--set", "name=first", "--set", "labels.team=vision", "--watch")
        first = out.splitlines()[0]
        equal(out.splitlines()[1:], [*epoch_lines(first, 2), end_line(first)])
        equal(wasd("watch", "first")[0].splitlines(), [*epoch_lines(first, 2), end_line(first)], "a job that has ended before")
        events = [json.loads(line) for line in wasd("submit", *SHORT, "--set", "name=second", "--watch", "--json")[0].splitlines()]
        equal((events[-1]["event"], events[-1]["data"]["state"]), ("job", "completed"))
        equal([e["data"]["epoch"] for e in events if e["event"] == "job.metric" and "train_loss" in e["data"]["metrics"]], [1, 2])

    with case("watch on a terminal: bar, epoch, accuracies, sparkline; drawn in place"):
        out, rc = on_terminal("submit", *SHORT, "--set", "name=third", "--watch")
        equal(rc, 0, out)
        check("\033[3A" in out and "\033[K" in out, repr(out))
        last = [re.sub(r"\033\[\d*[AK]", "", line) for line in out.split("\r\n")][-5:-1]
        third = c.get("/v1/jobs?name=third").json["items"][0]
        equal(last[0], f"third  {third['id']}  completed (done)")
        check(last[1].startswith("[" + "█" * 16 + "] 100 %  epoch 2/2  "), last[1])
        check(re.fullmatch(rf"loss {third['metrics_latest']['train_loss']:.4f}  AOM [\d.]+ %  DOM [\d.]+ %  [▁▂▃▄▅▆▇█]+", last[2]), last[2])
        check("▁" in last[2] and "█" in last[2], "the least and the greatest loss")
        equal(last[3], end_line(third["id"]))

    with case("watch and wait: statuses of a cancelled and of a failed job, a time that is up"):
        job = wasd("submit", *LONG, "--set", "name=endless")[0].strip()
        equal(wasd("wait", job, "--timeout", "0s", rc=4)[1].split(" is still ")[0], f"wasd wait: {job}")
        with subprocess.Popen([WASD, "watch", job], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env()) as p:
            check(p.stdout.readline().startswith("epoch 1/20000  loss "), "the first epoch")
            out, _ = wasd("cancel", "endless", "--reason", "a test")
            check(re.fullmatch(f"{job} is cancell(ing|ed)\n", out), out)
            p.stdout.read()
            equal(p.wait(), 3)
        out, _ = wasd("wait", "endless", "first", rc=3)
        equal([line.split(" ")[2].rstrip(";") for line in out.splitlines()], ["cancelled", "completed"])
        _, err = wasd("cancel", "first", "endless", rc=1)
        equal(err, f"wasd cancel: job {first} is completed and cannot become cancelled\n")
        out, _ = wasd("submit", *SHORT, "--set", "name=wild", "--set", "train.optimizer.type=sgd", "--set", "train.optimizer.lr=100", "--set", "retry.max=0", "--wait", rc=1)
        check(out.splitlines()[1].startswith(f"{out.splitlines()[0]} is failed (nan_loss): "), out)
        wasd("watch", "wild", rc=1)
        wasd("wait", "wild", "endless", rc=1)

    with case("pause, resume, retry"):
        job = wasd("submit", *LONG, "--set", "name=paused")[0].strip()
        changed = lambda *want: next(now for now in iter(lambda: c.get(f"/v1/jobs/{job}?wait=2s&until=change").json["state"], None) if now in want)
        changed("running")
        out, _ = wasd("pause", "paused", "--reason", "room for another")
        check(re.fullmatch(f"{job} is paus(ing|ed)\n", out), out)
        changed("paused")
        now = json.loads(wasd("resume", "paused", "--json")[0])
        check((now["id"], now["state"]) == (job, "queued") or now["state"] in ("starting", "running"), now)
        changed("running")
        wasd("cancel", "paused", "--kill")
        wasd("wait", "paused", rc=3)
        check(wasd("retry", "paused")[0].startswith(f"{job} is "), "queued again")
        wasd("cancel", "paused")
        wasd("wait", "paused", rc=3)
        _, err = wasd("retry", first, rc=1)
        equal(err, f"wasd retry: job {first} is completed and cannot become queued\n")
        wasd("pause", rc=2)

    with case("a job by its id, the unique beginning of its id, its name; the newest of a name"):
        again = wasd("clone", "first", "--set", "train.seed=9", "--wait")[0].splitlines()[0]
        a, b = c.get(f"/v1/jobs/{first}").json, c.get(f"/v1/jobs/{again}").json
        equal({k: v for k, v in b["train"].items() if k != "seed"}, {k: v for k, v in a["train"].items() if k != "seed"})
        equal((b["train"]["seed"], b["dataset"], b["labels"], b["name"]), (9, a["dataset"], a["labels"], "first"))
        equal(wasd("wait", "first")[0].split()[0], again)
        ids = [j["id"] for j in c.get("/v1/jobs").json["items"]]
        least = next(n for n in range(5, 31) if sum(i.startswith(first[:n]) for i in ids) == 1)
        equal(wasd("wait", first[:least])[0].split()[0], first)
        equal(wasd("wait", first[4:least])[0].split()[0], first)
        equal(wasd("wait", "job_" + first[4:8], rc=1)[1], f"wasd wait: the ids of {len(ids)} jobs begin with job_{first[4:8]}; give more of it\n")
        equal(wasd("watch", "nobody", rc=1)[1], "wasd watch: no job has the id or the name nobody; wasd jobs lists them\n")

    with case("jobs: aligned columns, filters, short ids that the commands take"):
        rows = wasd("jobs")[0].splitlines()
        equal(rows[0].split(), ["ID", "STATE", "EPOCH", "AOM", "%", "DOM", "%", "NAME", "PHASE"])
        equal([r.split()[0] for r in rows[1:]], ids)
        at = rows[0].index("NAME")
        equal([r[at - 1:].split()[0] for r in rows[1:]], [j["name"] for j in c.get("/v1/jobs").json["items"]])
        best = c.get(f"/v1/jobs/{first}").json["best"]["metrics"]
        row = next(r.split() for r in rows if r.startswith(first))
        equal(row, [first, "completed", "2/2", f"{100 * best['val_acc_aom']:.1f}", f"{100 * best['val_acc_dom']:.1f}", "first"])
        listed = lambda *args: [r.split()[0] for r in wasd("jobs", *args)[0].splitlines()[1:]]
        equal(listed("--label", "team=vision"), [again, first])
        equal(listed("--state", "cancelled", "--state", "failed"), [i for i in ids if c.get(f"/v1/jobs/{i}").json["state"] in ("cancelled", "failed")])
        equal(listed("--limit", "2"), ids[:2])
        equal([j["id"] for j in json.loads(wasd("jobs", "--json")[0])["items"]], ids)
        for short, whole in zip(listed("--short"), ids):
            check(whole.startswith(short) and len(short) < 30, short)
        equal(wasd("wait", listed("--short")[-1])[0].split()[0], first)
        check("state" in wasd("jobs", "--state", "happy", rc=1)[1], "the daemon's words")
        wasd("jobs", "--label", "team", rc=2)

    with case("logs: all lines, the last ones, a level, JSON, refusals"):
        text = c.get(f"/v1/jobs/{first}/logs").body.decode()
        equal(wasd("logs", first)[0], text)
        equal(wasd("logs", first, "--tail", "2")[0].splitlines(), text.splitlines()[-2:])
        equal(wasd("logs", first, "-f")[0], text)
        warned = c.get("/v1/jobs/" + c.get("/v1/jobs?name=wild").json["items"][0]["id"] + "/logs?level=error").body.decode()
        equal(wasd("logs", "wild", "--level", "error")[0], warned)
        equal([json.loads(line)["n"] for line in wasd("logs", first, "--json")[0].splitlines()], list(range(1, text.count("\n") + 1)))
        check("level" in wasd("logs", first, "--level", "loud", rc=1)[1], "the daemon's words")
        wasd("logs", first, "--tail", "some", rc=2)

    with case("watch and logs -f go on after kill -9 of the daemon: every epoch and every line once"):
        job = wasd("submit", *LONG, "--set", "name=survivor")[0].strip()
        log = subprocess.Popen([WASD, "logs", job, "-f"], stdout=subprocess.PIPE, text=True, env=env())
        with subprocess.Popen([WASD, "watch", job], stdout=subprocess.PIPE, text=True, env=env()) as p:
            lines = [p.stdout.readline() for _ in range(3)]
            d.args = ["--listen", f"127.0.0.1:{d.port}"]
            d.kill()
            d.start()
            c, last = d.client, 0
            while not last:
                now = c.get(f"/v1/jobs/{job}?wait=10s&until=change").json
                last = now["attempt"] == 2 and now["state"] == "running" and now["progress"].get("epoch", 0)
            while int(lines[-1].split()[1].split("/")[0]) < last:
                lines.append(p.stdout.readline())
            wasd("cancel", job)
            lines += p.stdout.readlines()
            equal(p.wait(), 3)
        done = len(d.series(job, "train_loss")["train_loss"])
        equal([line.split()[1] for line in lines[:-1]], [f"{e}/20000" for e in range(1, done + 1)])
        check(lines[-1].startswith(f"{job} is cancelled (user)"), lines[-1])
        equal(log.communicate()[0], c.get(f"/v1/jobs/{job}/logs").body.decode())

finish()
