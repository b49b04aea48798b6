#!/usr/bin/python3
"""Data sets, comparisons, the registry and the overview from the shell: data add|ls|show, compare, models, top. What they print is compared with what
the API answers."""
import json, os, pty, subprocess

from lib import BUILD, PATIENCE, Daemon, case, check, directory, equal, finish, noise_png

WASD = os.path.join(BUILD, "wasd")


def wasd(*args, rc=0):
    """stdout and stderr of the command."""
    p = subprocess.run([WASD, *args], capture_output=True, text=True, timeout=120 * PATIENCE, env=dict(os.environ, WASD_URL=f"http://127.0.0.1:{d.port}"))
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout, p.stderr


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    return path


def idx(kind, *sizes):
    """The bytes of an IDX file of noise, or of labels that repeat 0 to 9."""
    n = sizes[0]
    for s in sizes[1:]:
        n *= s
    body = bytes(i % 10 for i in range(n)) if kind == 1 else bytes(i * 37 % 251 for i in range(n))
    return bytes((0, 0, 8, len(sizes))) + b"".join(s.to_bytes(4, "big") for s in sizes) + body


with Daemon() as d:
    c, here = d.client, directory()

    with case("data add: a synthetic set; the daemon's refusals"):
        out, _ = wasd("data", "add", "glyphs", "--synthetic", "glyphs", "--train", "200", "--test", "50", "--seed", "4", "--wait")
        s = c.get("/v1/datasets/glyphs").json
        equal(out, f"glyphs, version 1, is ready\n  images   200 train, 50 test\n  shape    3x32x32\n  classes  10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"
                   f"  format   glyphs, {s['bytes']} bytes\n  digest   {s['digest']}\n")
        equal(wasd("data", "show", "glyphs")[0], out)
        equal(json.loads(wasd("data", "show", "glyphs", "--json")[0]), s)
        equal(wasd("data", "add", "other", "--synthetic", "glyphs", "--train", "0", rc=1)[1],
              "wasd data add: /synthetic/train must be a whole number from 1 to 1000000, not 0\n")
        equal(wasd("data", "add", "other", "--synthetic", "glyphs", "--seed", "x", rc=1)[1].count("/synthetic/seed"), 1)
        for args in ((), ("glyphs",), ("a/b", "x"), ("x", "f", "--synthetic", "glyphs"), ("x", "f", "--train", "3"), ("x", "--synthetic", "glyphs", "--set", "size=8")):
            check(wasd("data", "add", *args, rc=2)[1].startswith("wasd data add: "), str(args))
        check("no dataset none" in wasd("data", "show", "none", rc=1)[1], "the daemon's words")

    with case("data add: a folder per class, with a long path and hidden files; the images are those of the folder"):
        deep = "a" * 60 + "/" + "b" * 60
        for k, name in enumerate(("cat", "dog")):
            for i in range(6):
                write(f"{here}/photos/{deep}/{name}/{i}.png", noise_png(10 * k + i))
        write(f"{here}/photos/.hidden/x.png", b"no picture")
        out, _ = wasd("data", "add", "photos", f"{here}/photos", "--set", "test_fraction=0.5", "--set", "size=16", "--wait", "--json")
        s = json.loads(out)
        equal((s["classes"], s["train"], s["test"], s["shape"], s["state"]), (["cat", "dog"], 6, 6, [3, 16, 16], "ready"))
        subprocess.run(["tar", "-C", f"{here}/photos", "-cf", f"{here}/photos.tar", deep.split("/")[0]], check=True)
        equal(json.loads(wasd("data", "add", "same", f"{here}/photos.tar", "--set", "test_fraction=0.5", "--set", "size=16", "--wait", "--json")[0])["digest"], s["digest"])

    with case("data add: four files of one set; an unreadable one; a file that is not there; a refused option"):
        files = [write(f"{here}/idx/{name}", data) for name, data in (
            ("train-images-idx3-ubyte", idx(3, 40, 8, 8)), ("train-labels-idx1-ubyte", idx(1, 40)), ("t10k-images-idx3-ubyte", idx(3, 10, 8, 8)),
            ("t10k-labels-idx1-ubyte", idx(1, 10)))]
        s = json.loads(wasd("data", "add", "mnist", *files, "--wait", "--json")[0])
        equal((s["format"], s["train"], s["test"]), ("idx", 40, 10))
        _, err = wasd("data", "add", "bad", write(f"{here}/bad.tar", b"nothing" * 300), "--wait", rc=1)
        check(err.startswith("wasd data add: bad cannot be used: "), err)
        equal(wasd("data", "add", "x", f"{here}/none", rc=1)[1], f"wasd data add: {here}/none: No such file or directory\n")
        check("fit" in wasd("data", "add", "x", files[0], "--set", "fit=wide", rc=1)[1], "the daemon's words")

    with case("data ls: one row for each"):
        rows = [r.split() for r in wasd("data", "ls")[0].splitlines()]
        equal(rows[0], ["NAME", "VERSION", "STATE", "TRAIN", "TEST", "CLASSES", "SHAPE"])
        equal(rows[1:], [["bad", "1", "invalid", "-", "-", "0", "-"], ["mnist", "1", "ready", "40", "10", "10", "1x8x8"], ["same", "1", "ready", "6", "6", "2", "3x16x16"],
                         ["photos", "1", "ready", "6", "6", "2", "3x16x16"], ["glyphs", "1", "ready", "200", "50", "10", "3x32x32"]])

    base = {"dataset": "glyphs", "model": {"arch": "lenet"}, "train": {"epochs": 2, "batch": 50}}
    first = d.submit(**base, name="first", was={"layers": "all"})["id"]
    second = d.submit(**{**base, "train": {"epochs": 2, "batch": 50, "seed": 9}}, name="second", was=False)["id"]
    a, b = d.wait_job(first), d.wait_job(second)

    with case("compare: only what differs, best and last metrics of each; --all and --json"):
        seen = json.loads(wasd("compare", "first", "second", "--json")[0])
        equal((seen["jobs"], seen["names"], seen["states"]), ([first, second], ["first", "second"], ["completed"] * 2))
        equal(seen["differs"], {"/name": ["first", "second"], "/was": [a["was"], False], "/train/seed": [123, 9]})
        equal(seen["best"]["val_acc_aom"], [j["best"]["metrics"]["val_acc_aom"] for j in (a, b)])
        equal(seen["best"]["epoch"], [j["best"]["epoch"] for j in (a, b)])
        equal(seen["last"]["val_acc_dom"], [a["metrics_latest"]["val_acc_dom"], None])
        lines = wasd("compare", "first", "second")[0].splitlines()
        equal(lines[0].split(), ["first", "second"])
        table = [line.split() for line in lines]
        equal([r[0] for r in table[lines.index("what differs") + 1:lines.index("best epoch") - 1]], ["/name", "/train/seed", "/was"])
        check(["/train/seed", "123", "9"] in table, table)
        last = {r[0]: r[1:] for r in table[lines.index("last epoch") + 1:]}
        equal(last["train_loss"], [f"{j['metrics_latest']['train_loss']:.4f}" for j in (a, b)])
        equal(last["val_acc_dom"], [f"{a['metrics_latest']['val_acc_dom']:.4f}", "-"])
        column = lines[0].index("second")
        check(all(line[column - 1] == " " and line[column] != " " for line in lines if line.startswith(("/", "val", "train", "state"))), "columns are aligned")
        equal(json.loads(wasd("compare", "first", "first", "second", "--all", "--json")[0])["spec"]["/train/epochs"], [2, 2, 2])
        equal(wasd("compare", "first", first)[0].splitlines()[3], "the specs are the same")
        wasd("compare", "first", rc=2)
        check("nobody" in wasd("compare", "first", "nobody", rc=1)[1], "the name")

    with case("models: a version of a job, of a checkpoint, aliases"):
        equal(wasd("models", "add", "digits", "first", "--alias", "champion")[0], f"digits, version 1: {a['best']['checkpoint']}, alias champion\n")
        equal(wasd("models", "add", "digits", b["best"]["checkpoint"], "--note", "plain")[0], f"digits, version 2: {b['best']['checkpoint']}\n")
        equal(json.loads(wasd("models", "add", "digits", "second@best", "--json")[0])["version"], 3)
        equal(wasd("models", "alias", "digits", "champion", "2", "--reason", "plain is better")[0], "digits@champion is version 2\n")
        moves = c.get("/v1/models/digits/aliases/champion/history").json["items"]
        equal((moves[0]["version"], moves[0]["reason"]), (2, "plain is better"))
        equal([r.split() for r in wasd("models")[0].splitlines()], [["NAME", "VERSIONS", "ALIASES"], ["digits", "3", "champion=2"]])
        check("no version 7" in wasd("models", "alias", "digits", "champion", "7", rc=1)[1], "the daemon's words")
        equal(wasd("models", "add", "other", "nobody", rc=1)[0], "")
        c.get("/v1/models/other", want=404)
        for args in (("add", "digits"), ("alias", "digits", "champion"), ("alias", "digits", "champion", "two"), ("remove",)):
            wasd("models", *args, rc=2)

    with case("top: workers, jobs, deployments with their rates, once"):
        d.deploy("reader", first)
        sent, rate = 0, 0
        while not rate:                                                            # of the last 10 seconds: again if the machine has slept meanwhile
            for i in range(20):
                c.post("/v1/deployments/reader/classify", noise_png(i), headers={"Content-Type": "image/png"})
            sent += 20
            lines = wasd("top", "--once")[0].splitlines()
            rate = float(next(line.split()[4] for line in lines if line.startswith("reader")))
        check(lines[0].startswith("wasd ") and " 0 of 1 workers busy, " in lines[0], lines[0])
        rows = {r.split()[0]: r.split() for r in lines[1:] if r}
        equal(rows["first"][1:3] + rows["first"][5:], ["completed", "2/2"] + [f"{100 * a['metrics_latest'][f'val_acc_{m}']:.1f}" for m in ("aom", "dom")] + ["-", "-"], "with no process")
        equal(rows["reader"][1:4], ["ready", "aom", "1"])
        check(float(rows["reader"][5]) > 0, rows["reader"])
        seen = json.loads(wasd("top", "--json")[0])
        equal([x["name"] for x in seen["deployments"]], ["reader"])
        equal(seen["deployments"][0]["stats"]["requests"], sent)
        wasd("top", "--interval", "0", rc=2)
        main, side = pty.openpty()
        p = subprocess.Popen([WASD, "top", "--interval", "0.2"], stdout=side, env=dict(os.environ, WASD_URL=f"http://127.0.0.1:{d.port}"))
        os.close(side)
        seen = b""
        while seen.count(b"\033[H\033[2J") < 3:
            seen += os.read(main, 65536)
        p.terminate()
        p.wait()
        check(b"reader" in seen, seen)

finish()
