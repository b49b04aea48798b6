#!/usr/bin/python3
"""The commands of a deployment's life, as a user types them: deploy, deployments, mode, classify, undeploy. What they print is compared with what
the API answers; exit statuses are 0 (done), 1 (refused) and 2 (usage)."""
import json, os, subprocess

from lib import BUILD, PATIENCE, Daemon, case, check, directory, equal, finish, noise_png

IMAGES = 6


def wasd(*args, rc=0, url=True, text=True):
    """stdout and stderr of the command."""
    env = dict(os.environ, **({"WASD_URL": f"http://127.0.0.1:{d.port}"} if url else {}))
    p = subprocess.run([os.path.join(BUILD, "wasd"), *args], capture_output=True, text=True, timeout=120 * PATIENCE, env=env)
    equal(p.returncode, rc, f"wasd {' '.join(args)}: {p.stdout}{p.stderr}")
    return p.stdout, p.stderr


def rows(out):
    return [line.split() for line in out.splitlines()]


def top(image, mode, k=1):
    answer = d.client.post(f"/v1/deployments/reader/classify?k={k}&mode={mode}", image, want=200, headers={"Content-Type": "image/png"}).json
    return [(t["label"], f"{t['p']:.4f}") for t in answer["results"][0]["top"]], answer["macs"]


with Daemon() as d:
    c = d.client
    d.glyphs(train=200, test=50)
    job = d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 2, "batch": 50, "seed": 3},
                   checkpoint={"keep": {"best": 1, "latest": 2}})["id"]
    ckpt = d.wait_job(job)["best"]["checkpoint"]
    other = next(k["id"] for k in c.get(f"/v1/jobs/{job}/checkpoints").json["items"] if k["id"] != ckpt)
    here = directory()
    images = [noise_png(i) for i in range(IMAGES)]
    files = [f"{here}/{i}.png" for i in range(IMAGES)]
    for path, data in zip(files, images):
        with open(path, "wb") as f:
            f.write(data)

    with case("deploy: a job, a checkpoint, refusals"):
        out, _ = wasd("deploy", f"{job}@best", "--name", "reader", "--wait")
        equal(out.splitlines()[0], f"reader is ready: mode aom, generation 1, version 1, checkpoint {ckpt}")
        check(f"curl -T image.png http://127.0.0.1:{d.port}/v1/deployments/reader/classify" in out, out)
        equal(c.get("/v1/deployments/reader").json["source"], {"job": job, "follow": "best"})
        out, _ = wasd("deploy", ckpt, "--name", "second", "--mode", "dom", "--batching", "8,300", "--wait", "--json")
        second = json.loads(out)
        equal((second["state"], second["mode"], second["source"]), ("ready", "dom", {"checkpoint": ckpt}))
        equal(second["batching"], {"max_batch": 8, "max_queue_delay_us": 300})
        _, err = wasd("deploy", ckpt, "--name", "reader", rc=1)
        equal(err, "wasd deploy: a deployment reader exists (at /name)\n")
        _, err = wasd("deploy", "ckpt_none", "--name", "third", rc=1)
        equal(err, "wasd deploy: /source/checkpoint: there is no checkpoint ckpt_none\n")
        equal(wasd("deploy", "nobody@best", "--name", "third", rc=1)[1], "wasd deploy: no job has the id or the name nobody; wasd jobs lists them\n")
        wasd("deploy", "lenet-glyphs", "--name", "named", "--mode", "dom")
        equal(c.get("/v1/deployments/named").json["source"], {"job": job, "follow": "best"})
        wasd("undeploy", "named")
        _, err = wasd("deploy", ckpt, "--name", "Third", "--mode", "fast", rc=1)
        equal([line.split()[2] for line in err.splitlines()], ["/name", "/mode"], "each fault with its pointer")

    with case("deploy: a model's alias, and a version of it"):
        c.post("/v1/models", {"name": "digits"})
        c.post("/v1/models/digits/versions", {"checkpoint": ckpt, "alias": "champion"})
        for source, want in (("digits@champion", {"model": "digits", "alias": "champion"}), ("digits:1", {"model": "digits", "version": 1})):
            wasd("deploy", source, "--name", "third", "--wait")
            equal(c.get("/v1/deployments/third").json["source"], want)
            wasd("undeploy", "third")
        check("/source/version" in wasd("deploy", "digits:7", "--name", "third", rc=1)[1], "the version that is not there")

    with case("deployments: one row for each"):
        out, _ = wasd("deployments")
        equal(rows(out), [["NAME", "STATE", "MODE", "GEN", "VERSION", "CHECKPOINT"], ["second", "ready", "dom", "1", "1", ckpt],
                          ["reader", "ready", "aom", "1", "1", ckpt]])

    with case("mode: the table, a switch with its reason, the same mode again, the way back"):
        now = c.get("/v1/deployments/reader/mode").json
        out, _ = wasd("mode", "reader")
        aom, dom = rows(out)[1:3]
        equal(aom[:2] + [aom[4], aom[6]], ["*", "aom", str(now["bundles"]["aom"]["macs"]), str(now["bundles"]["aom"]["bytes"])])
        equal(dom[:2] + dom[3:4], ["dom", f"{now['bundles']['dom']['acc']:.4f}", str(now["bundles"]["dom"]["macs"])])
        check("reader is in mode aom, generation 1, since" in out, out)
        out, _ = wasd("mode", "reader", "dom", "--reason", "half the load")
        check(out.startswith("reader: aom -> dom, generation 2, swapped in "), out)
        equal(c.get("/v1/audit?object=deployment/reader&limit=1").json["items"][0]["reason"], "half the load")
        equal(wasd("mode", "reader", "dom")[0], "reader: already in mode dom, generation 2\n")
        back = json.loads(wasd("mode", "reader", "--rollback", "--json")[0])
        equal((back["mode"], back["previous"], back["generation"]), ("aom", "dom", 3))
        wasd("mode", "reader", "auto")
        out, _ = wasd("mode", "reader")
        equal([line.split()[1] for line in out.splitlines() if line.startswith("*")], ["aom"])
        check("reader is in mode auto, now aom, generation 4" in out, out)
        wasd("mode", "reader", "--rollback")
        _, err = wasd("mode", "reader", "dom:none", rc=1)
        check(err.startswith("wasd mode: /mode: ") and "are aom, dom" in err, err)
        check("no deployment none" in wasd("mode", "none", rc=1)[1], "the daemon's words")

    with case("deploy --update: another checkpoint is swapped in; one that is not there changes nothing"):
        out, _ = wasd("deploy", other, "--name", "second", "--update", "--mode", "aom", "--reason", "a later one", "--wait")
        equal(out.splitlines()[0], f"second is ready: mode aom, generation 2, version 2, checkpoint {other}")
        check("/source/checkpoint" in wasd("deploy", "ckpt_none", "--name", "second", "--update", rc=1)[1], "no such checkpoint")
        check("no deployment none" in wasd("deploy", other, "--name", "none", "--update", rc=1)[1], "no such deployment")
        now = c.get("/v1/deployments/second").json
        equal((now["checkpoint"], now["previous"], now["version"]), (other, ckpt, 2))

    with case("classify: one file, several, a bad one between them"):
        want, macs = top(images[0], "aom", 5)
        out, _ = wasd("classify", "reader", files[0])
        got = rows(out)
        equal(got[1][1:], [*want[0], "aom"])
        equal([(r[0], r[1]) for r in got[2:6]], want[1:])
        equal(out.splitlines()[-1], f"reader, version 1, generation 5; multiply-adds per image: {macs}")
        with open(f"{here}/bad.png", "wb") as f:
            f.write(images[0][:60])
        out, err = wasd("classify", "reader", files[0], f"{here}/bad.png", f"{here}/none.png", files[1], "-k", "2", "--mode", "dom", rc=1)
        equal([tuple(r[-3:-1]) for r in rows(out)[1:5]], [*top(images[0], "dom", 2)[0], *top(images[1], "dom", 2)[0]])
        check(f"{here}/bad.png: " in err and "/images/0" in err and f"{here}/none.png: " in err, err)

    with case("classify --compare: both modes beside each other, and how often they agree"):
        both = [(top(i, "aom")[0][0], top(i, "dom")[0][0]) for i in images]
        agree = sum(a[0] == b[0] for a, b in both)
        out, _ = wasd("classify", "reader", *files, "--compare")
        for line, (a, b) in zip(rows(out)[1:], both):
            equal(line[1:], [*a, *b] + ([] if a[0] == b[0] else ["differ"]))
        equal(out.splitlines()[-1], f"the modes agree on {agree} of {IMAGES} images ({100 * agree / IMAGES:.1f} %)")
        costs = top(images[0], "aom")[1], top(images[0], "dom")[1]
        check(f"aom {costs[0]}, dom {costs[1]} ({100 * costs[1] / costs[0]:.1f} %)" in out, out)
        seen = json.loads(wasd("classify", "reader", "--compare", "dom,aom", "--json", *files[:2])[0])
        equal((seen["images"], seen["agree"]), (2, sum(a[0] == b[0] for a, b in both[:2])))
        equal([[a["mode"] for a in item["answers"]] for item in seen["items"]], [["dom", "aom"]] * 2)
        equal([item["file"] for item in seen["items"]], files[:2])

    with case("undeploy; then nothing answers"):
        equal(wasd("undeploy", "second")[0], "second is gone\n")
        check("no deployment second" in wasd("undeploy", "second", rc=1)[1], "the daemon's words")
        c.get("/v1/deployments/second", want=404)

    with case("usage: exit status 2, a message, nothing sent; every command has --help with an example"):
        wrong = (("deploy",), ("deploy", ckpt), ("deploy", "@best", "--name", "x"),
                 ("deploy", "digits:x", "--name", "x"), ("deploy", "ckpt_1@best", "--name", "x"), ("deploy", ckpt, "--name", "x", "--reason", "y"), ("deploy", ckpt, "--name", "x", "--follow", "best"),
                 ("deploy", f"{job}@best", "--name", "x", "--follow", "latest"), ("deploy", ckpt, "--name", "x", "--batching", "many"),
                 ("mode",), ("mode", "a/b"), ("mode", "reader", "dom", "--rollback"), ("mode", "reader", "--reason", "x"), ("classify", "reader"),
                 ("classify", "reader", files[0], "--mode", "aom", "--compare"), ("undeploy",), ("deployments", "reader"))
        for args in wrong:
            _, err = wasd(*args, rc=2)
            check(err.startswith(f"wasd {args[0]}: "), err)
        equal(len(c.get("/v1/deployments").json["items"]), 1)
        for command in ("deploy", "mode", "classify", "undeploy"):
            check(f"\n  wasd {command} " in wasd(command, "--help")[0], f"an example of {command}")
        check("cannot connect" in wasd("mode", "reader", "--url", "127.0.0.1:1", rc=1, url=False)[1], "no daemon")

finish()
