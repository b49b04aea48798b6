#!/usr/bin/python3
"""kill -9 at random moments, of the daemon or of an engine process of any role, while five clients change whatever the API can change: jobs (submit, pause, hold,
resume, cancel, retry, clone, priority, batches, deletion, queues), sweeps, data sets, blobs, checkpoints (pins, imports, deletion), profiles, models with versions and aliases,
deployments (mode, traffic, source, rollback, load and unload), webhooks, backups and garbage collection. Each client knows the value that it was last acknowledged, and of a
request without an answer both the old and the new one. After each kill every object must have such a value; both databases must pass their checks; jobs must be in
states that the wishes of their client allow and have got there by moves of the diagram; completed jobs must have the losses of an undisturbed job to the bit; no
engine process may be left. At the end everything ends, a receiver of webhooks must have got every event of a job in order, and `wasd fsck` must find neither a
fault nor a left-over file.

  tests/bench/kills.py                       # 300 kills
  tests/bench/kills.py --kills 15 --seed 7

tests/e2e/test_kills.py runs the small form."""
import argparse, collections, glob, hashlib, http.client, http.server, json, os, random, re, shutil, signal, sqlite3, subprocess, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import BUILD, PATIENCE, TOP, Client, Daemon, check, equal, exact, integrity, noise_png, tar

GONE, THERE = "gone", "there"
ROLES = ("train", "infer", "ingest", "profile")
NAMES = "train_loss,train_acc,val_loss_aom,val_acc_aom,val_loss_dom,val_acc_dom"
SPECS = [{"was": {"layers": "all"}, "train": {"epochs": 3, "batch": 32, "seed": 1}},
         {"was": {"layers": "all"}, "train": {"epochs": 8, "batch": 32, "seed": 2, "optimizer": {"type": "adamw", "lr": 0.001}, "augment": ["flip"]}},
         {"was": False, "train": {"epochs": 5, "batch": 16, "seed": 3}},
         {"was": {"layers": "all"}, "train": {"epochs": 2, "batch": 32, "seed": 4}, "profiles": [{"name": "light", "desire": "macs", "budget": 0.95, "evaluations": 4}]}]
# The states that a job may be in when its client last wished this. Only what waits for another job may be cancelled by itself.
WISHES = {"run": {"queued", "held", "starting", "running", "preempting", "retry_wait", "completed"},
          "pause": {"held", "pausing", "paused", "completed"},
          "cancel": {"cancelling", "cancelled"}}


def moves():
    """{state: {states that may follow}} of the diagram."""
    with open(os.path.join(TOP, "storage/job_states.c")) as f:
        table = f.read().partition("moves[] = {")[2].partition("};")[0]
    return {state: set(re.findall(r'"(\w+)"', rest)) for state, rest in re.findall(r'\{"(\w+)", \{(.*?)\}\}', table)}


def fields(pid):
    """State and parent of a process; none if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[:2]
    except OSError:
        return ["X", "0"]


def gone(pid):
    return fields(pid)[0] in "ZX"


def children(d):
    return [pid for pid in filter(str.isdigit, os.listdir("/proc")) if fields(pid)[1] == str(d.pid)]


def engines(d):
    return {role: pids for role in ROLES if (pids := d.engines(role))}


class Cut(Exception):
    """The daemon has died during the request."""


class Actor:
    """A client that changes objects of its own. allowed: {object: values that it may have}."""

    def __init__(self, world, name, seed):
        self.world, self.name, self.rng, self.n = world, name, random.Random(seed), 0
        self.allowed, self.now, self.counts, self.failures = {}, None, collections.Counter(), []

    def new(self, kind):
        self.n += 1
        return f"{self.name}-{kind}-{self.n}"

    def send(self, method, path, body=None, headers=None):
        """The answer; Cut if none came. Nothing is sent twice."""
        self.now = f"{method} {re.sub(r'(job|ckpt|swp|hook)_[0-9A-Z]+|[0-9a-f]{64}|(?<=/)[a-z]+-[a-z]+-[0-9]+', '{}', path.partition('?')[0])}"
        c = Client(self.world.d.port)
        try:
            reply = c.request(method, path, body, headers)
        except (OSError, http.client.HTTPException):
            raise Cut from None
        finally:
            c.close()
        self.counts[self.now, reply.status // 100] += 1
        check(reply.status < 500 or reply.status in (503, 504), f"{self.now}: {reply!r}")
        self.now = None
        return reply

    def change(self, wants, method, path, body=None, headers=None):
        """wants: {object: value} if the request succeeds. Returns the answer."""
        before = {key: self.allowed.get(key, {GONE}) for key in wants}
        for key, value in wants.items():
            self.allowed[key] = before[key] | {value}
        reply = self.send(method, path, body, headers)
        for key, value in wants.items():
            self.allowed[key] = {value} if reply.status < 300 else before[key] if reply.status < 500 else self.allowed[key]
        return reply

    def have(self, kind):
        """Names of the objects of that kind that are surely there, or surely have a value."""
        return [key[1] for key, values in self.allowed.items() if key[0] == kind and GONE not in values]

    def found(self, key, value):
        """Compares what is there with what may be there."""
        allowed = self.allowed.get(key, {GONE})
        check(value in allowed, f"{key} is {value!r}, acknowledged {allowed}")
        self.allowed[key] = {value}
        if value == GONE:
            self.allowed = {k: v for k, v in self.allowed.items() if k[1] != key[1]}

    def live(self):
        """Changes things until the world stops or the daemon dies."""
        try:
            while not self.world.stop.wait(0.005):                                     # on two cores the engines need a turn, too
                self.step()
        except Cut:
            if not self.world.striking.wait(60 * PATIENCE):
                self.failures.append("a connection broke, and nobody had killed the daemon")
        except Exception as e:
            self.failures.append(f"{self.name}: {e!r}")


class Jobs(Actor):
    def __init__(self, *args):
        super().__init__(*args)
        self.ids, self.spec, self.after, self.late, self.compared = {}, {}, {}, {}, set()

    def step(self):
        names, r = self.have("job"), self.rng
        if len(names) < 4 or (len(names) < 12 and r.random() < 0.4):
            return self.submit(names)
        name = r.choice(names)
        what = r.choice((self.pause, self.pause, self.hold, self.resume, self.resume, self.resume, self.cancel, self.retry, self.clone, self.priority, self.batch, self.queue, self.delete, self.delete))
        what(name)

    def submit(self, names):
        name, which = self.new("job"), self.rng.randrange(len(SPECS))
        self.spec[name], self.after[name] = which, bool(names) and self.rng.random() < 0.15
        body = {**SPECS[which], "name": name, "dataset": "base", "model": {"arch": "lenet"}, "retry": {"max": 100, "backoff_s": 0}, "priority": self.rng.randrange(0, 100, 10),
                "queue": self.rng.choice(("default", "night"))}
        if self.after[name]:
            body["after"] = [self.ids[self.rng.choice(names)]]
        self.late[name] = self.rng.random() < 0.2
        if self.late[name]:
            body["deadline"] = self.rng.choice((1, 2, 5))
        reply = self.change({("job", name): THERE, ("priority", name): body["priority"], ("wish", name): "run"}, "POST", "/v1/jobs", body, {"Idempotency-Key": name})
        if reply.status == 201:
            self.ids[name] = reply.json["id"]

    def clone(self, name):
        other, priority = self.new("job"), self.rng.randrange(0, 100, 10)
        self.spec[other], self.after[other], self.late[other] = self.spec[name], self.after[name], self.late[name]
        reply = self.change({("job", other): THERE, ("priority", other): priority, ("wish", other): "run"}, "POST", f"/v1/jobs/{self.ids[name]}:clone", {"name": other, "priority": priority})
        if reply.status == 201:
            self.ids[other] = reply.json["id"]

    def act(self, name, action, wish, body=None):
        self.change({("wish", name): wish}, "POST", f"/v1/jobs/{self.ids[name]}:{action}", body or {})

    def pause(self, name):
        self.act(name, "pause", "pause")

    def hold(self, name):
        self.act(name, "hold", "pause")

    def resume(self, name):
        self.act(name, self.rng.choice(("resume", "release")), "run")

    def retry(self, name):
        self.act(name, "retry", "run")

    def cancel(self, name):
        self.act(name, "cancel", "cancel", {"mode": self.rng.choice(("graceful", "kill"))})

    def priority(self, name):
        value = self.rng.randrange(0, 100, 10)
        self.change({("priority", name): value}, "PATCH", f"/v1/jobs/{self.ids[name]}", {"priority": value})

    def delete(self, name):
        self.change({("job", name): GONE}, "DELETE", f"/v1/jobs/{self.ids[name]}")

    def batch(self, name):
        """Several at once: each is answered by itself."""
        some = list({name, self.rng.choice(self.have("job"))})
        action, key, value = self.rng.choice((("cancel", "wish", "cancel"), ("pause", "wish", "pause"), ("resume", "wish", "run"), ("delete", "job", GONE)))
        before = {n: self.allowed[key, n] for n in some}
        for n in some:
            self.allowed[key, n] = before[n] | {value}
        reply = self.send("POST", "/v1/jobs:batch", {"action": action, "ids": [self.ids[n] for n in some]})
        if reply.status == 200:
            for n, row in zip(some, reply.json["results"], strict=True):
                self.allowed[key, n] = {value} if row["status"] < 300 else before[n]

    def queue(self, _):
        value = (self.rng.choice((0, 0, 1, 2)), self.rng.choice((1, 2, 5)), self.rng.random() < 0.2)
        self.change({("queue", "night"): value}, "PATCH", "/v1/queues/night", {"max_running": value[0], "weight": value[1], "paused": value[2]})

    def verify(self, d):
        rows = d.client.get("/v1/jobs?limit=500").json["items"]
        named = collections.Counter(j["name"] for j in rows)
        equal([n for n, k in named.items() if k > 1], [], "jobs that are there twice")
        by_name = {j["name"]: j for j in rows}
        for name in [key[1] for key in self.allowed if key[0] == "job"]:
            j = by_name.get(name)
            self.found(("job", name), THERE if j else GONE)
            if not j:
                continue
            self.ids[name] = j["id"]
            self.found(("priority", name), j["priority"])
            wishes = {w for w in self.allowed["wish", name] if w != GONE and j["state"] in WISHES[w] and not (w == "run" and j["state"] == "held" and j["reason"] != "dependency")
                      or (j["state"] == "cancelled" and self.after[name]) or (j["state"] == "failed" and j["reason"] == "deadline_exceeded" and self.late[name])}
            check(wishes, f"{name} is {j['state']} ({j['reason']}: {j['message']}), wished {self.allowed['wish', name]}")
            self.allowed["wish", name] = wishes - {GONE}
            if j["state"] == "completed" and j["id"] not in self.compared:
                equal(exact(d.series(j["id"], NAMES)), self.world.reference[self.spec[name]], f"losses of {name}, attempt {j['attempt']}")
                self.compared.add(j["id"])
        queue = next((q for q in d.client.get("/v1/queues").json["items"] if q["name"] == "night"), None)
        if ("queue", "night") in self.allowed:
            self.found(("queue", "night"), (queue["max_running"], queue["weight"], queue["paused"]) if queue else GONE)

    def settle(self, d):
        """Lets every job end; returns the number of jobs in each state."""
        c = d.client
        now = c.request("PATCH", "/v1/queues/night", {"paused": False, "max_running": 0}, want=200).json
        self.allowed["queue", "night"] = {(0, now["weight"], False)}
        ends, arrows = collections.Counter(), moves()
        for name in self.have("job"):
            while (j := c.get(f"/v1/jobs/{self.ids[name]}?wait=1s&until=terminal").json)["state"] not in ("completed", "cancelled", "failed"):
                if j["state"] in ("paused", "held") and c.post(f"/v1/jobs/{j['id']}:resume", {}, want=(200, 409)).status == 200:
                    self.allowed["wish", name] = {"run"}
            ends[j["state"]] += 1
            said = c.get(f"/v1/jobs/{j['id']}/transitions").json["items"]
            for a, b in zip(said, said[1:]):
                equal(b["from"], a["to"], f"moves of {name}")
            equal([(t["from"], t["to"]) for t in said if t["from"] and t["to"] not in arrows[t["from"]]], [], f"moves of {name}")
        return ends


class Models(Actor):
    """Everything that serves: models, deployments, profiles, and the checkpoints of a job that the others leave alone."""

    def step(self):
        r = self.rng
        r.choice((self.model, self.version, self.version, self.alias, self.alias, self.drop_alias, self.drop_model, self.deploy, self.mode, self.mode, self.traffic, self.source, self.source, self.rollback,
                  self.undeploy, self.classify, self.classify, self.pin, self.profile, self.drop_profile, self.import_one, self.drop_import, self.unload))()

    def one(self, kind):
        names = self.have(kind)
        return self.rng.choice(names) if names else None

    def model(self):
        if len(self.have("model")) < 4:
            name = self.new("model")
            self.change({("model", name): THERE, ("versions", name): 0}, "POST", "/v1/models", {"name": name})

    def version(self):
        if (name := self.one("versions")) and len(self.allowed["versions", name]) == 1:
            n, = self.allowed["versions", name]
            self.change({("versions", name): n + 1}, "POST", f"/v1/models/{name}/versions", {"checkpoint": self.rng.choice(self.world.ckpts)})

    def alias(self):
        if (name := self.one("versions")) and (n := min(self.allowed["versions", name])):
            which = self.rng.randint(1, n)
            self.change({("alias", name): which}, "PUT", f"/v1/models/{name}/aliases/best", {"version": which})

    def drop_alias(self):
        if name := self.one("alias"):
            before = self.allowed["alias", name]
            self.allowed["alias", name] = before | {GONE}
            reply = self.send("DELETE", f"/v1/models/{name}/aliases/best")
            self.allowed["alias", name] = {GONE} if reply.status < 300 else before

    def drop_model(self):
        if (name := self.one("model")) and self.rng.random() < 0.4:
            self.change({("model", name): GONE}, "DELETE", f"/v1/models/{name}")
            if self.allowed["model", name] == {GONE}:
                self.allowed = {k: v for k, v in self.allowed.items() if k[1] != name}

    def deploy(self):
        if len(self.have("deployment")) < 3:
            name, ckpt, mode = self.new("live"), self.rng.choice(self.world.ckpts), self.rng.choice(("aom", "dom"))
            self.change({("deployment", name): THERE, ("mode", name): mode, ("traffic", name): "null", ("source", name): ckpt}, "POST", f"/v1/deployments{self.rng.choice(('', '?wait=20s'))}",
                        {"name": name, "source": {"checkpoint": ckpt}, "mode": mode})

    def mode(self):
        if name := self.one("deployment"):
            mode = self.rng.choice(("aom", "dom", "auto"))
            self.change({("mode", name): mode}, "PUT", f"/v1/deployments/{name}/mode", {"mode": mode})

    def traffic(self):
        if name := self.one("deployment"):
            policy = self.rng.choice(({}, {"split": {"aom": 1, "dom": 3}}, {"split": {"dom": 1}, "sticky_header": "X-User"}, {"shadow": {"mode": "dom", "percent": 50, "examples": 0}}))
            want = json.dumps(policy or None)
            self.change({("traffic", name): want}, "PUT", f"/v1/deployments/{name}/traffic", policy)

    def source(self):
        if name := self.one("deployment"):
            ckpt = self.rng.choice(self.world.ckpts)
            self.change({("source", name): ckpt}, "PATCH", f"/v1/deployments/{name}{self.rng.choice(('', '?wait=20s'))}", {"source": {"checkpoint": ckpt}})

    def rollback(self):
        """The mode before: known only from the answer."""
        if name := self.one("deployment"):
            before = self.allowed["mode", name]
            self.allowed["mode", name] = before | {"aom", "dom", "auto"}
            reply = self.send("POST", f"/v1/deployments/{name}/mode:rollback", {})
            if reply.status < 500:
                self.allowed["mode", name] = {reply.json["mode"]} if reply.status < 300 else before

    def undeploy(self):
        if (name := self.one("deployment")) and self.rng.random() < 0.5:
            self.change({("deployment", name): GONE}, "DELETE", f"/v1/deployments/{name}")

    def unload(self):
        if name := self.one("deployment"):
            self.send("POST", f"/v2/repository/models/{name}/unload", {})
            self.send("POST", f"/v2/repository/models/{name}/load", {})

    def classify(self):
        if name := self.one("deployment"):
            reply = self.send("POST", f"/v1/deployments/{name}/classify?logits=1&mode=aom", self.world.picture, {"Content-Type": "image/png"})
            if reply.status == 200:
                got = tuple(reply.json["results"][0]["logits"])
                check(got in self.world.answers, f"an answer that no checkpoint gives: {got}")

    def pin(self):
        ckpt, value = self.rng.choice(self.world.ckpts), self.rng.random() < 0.5
        self.allowed.setdefault(("pin", ckpt), {False})
        self.change({("pin", ckpt): value}, "PATCH", f"/v1/checkpoints/{ckpt}", {"pinned": value})

    def profile(self):
        if len(self.have("profile")) < 3:
            name = self.new("mode")
            self.change({("profile", name): THERE}, "POST", f"/v1/checkpoints/{self.world.ckpts[0]}/profiles", {"name": name, "desire": "macs", "budget": 0.95, "evaluations": 4})

    def drop_profile(self):
        if name := self.one("profile"):
            self.change({("profile", name): GONE}, "DELETE", f"/v1/checkpoints/{self.world.ckpts[0]}/profiles/{name}")

    def import_one(self):
        data = self.world.file
        sha = hashlib.sha256(data).hexdigest()
        if self.send("PUT", f"/v1/blobs/{sha}", data).status < 300:
            self.allowed["blob", sha] = {THERE}
            reply = self.send("POST", "/v1/checkpoints", {"blob": sha})
            if reply.status == 201:
                self.allowed["import", reply.json["id"]] = {THERE}

    def drop_import(self):
        if ckpt := self.one("import"):
            self.change({("import", ckpt): GONE}, "DELETE", f"/v1/checkpoints/{ckpt}")

    def verify(self, d):
        c = d.client
        models = {m["name"]: m for m in c.get("/v1/models?limit=500").json["items"]}
        lives = {m["name"]: m for m in c.get("/v1/deployments?limit=500").json["items"]}
        profiles = {p["name"] for p in c.get(f"/v1/checkpoints/{self.world.ckpts[0]}/profiles").json["items"]}
        for kind, name in list(self.allowed):
            if (kind, name) not in self.allowed:
                continue                                                               # it belonged to something that is gone
            if kind == "model":
                self.found((kind, name), THERE if name in models else GONE)
            elif kind == "versions" and name in models:
                self.found((kind, name), len(c.get(f"/v1/models/{name}/versions?limit=500").json["items"]))
            elif kind == "alias" and name in models:
                got = c.get(f"/v1/models/{name}/aliases/best", want=(200, 404))
                value = got.json["version"] if got.status == 200 else GONE
                check(value in self.allowed[kind, name], f"alias of {name} is {value}, acknowledged {self.allowed[kind, name]}")
                self.allowed[kind, name] = {value}
            elif kind == "deployment":
                there = name in lives
                if there and self.allowed[kind, name] == {GONE}:                       # accepted: it drains
                    there = c.get(f"/v1/deployments/{name}?wait=30s", want=(200, 404)).status == 200
                self.found((kind, name), THERE if there else GONE)
            elif kind in ("mode", "traffic") and name in lives:
                self.found((kind, name), json.dumps(lives[name][kind]) if kind == "traffic" else lives[name][kind])
            elif kind == "source" and name in lives:
                now = c.get(f"/v1/deployments/{name}?wait=30s", want=(200, 404)).json
                if not any(k["type"] in ("UpdateFailed", "Suspended") for k in now["conditions"]) and now["state"] != "failed":
                    self.found((kind, name), now["checkpoint"])
                else:                                                                  # its process was killed too often
                    self.allowed[kind, name] = {now["checkpoint"]}
            elif kind == "pin":
                self.found((kind, name), c.get(f"/v1/checkpoints/{name}").json["pinned"])
            elif kind == "profile":
                self.found((kind, name), THERE if name in profiles else GONE)
            elif kind == "import":
                self.found((kind, name), THERE if c.get(f"/v1/checkpoints/{name}", want=(200, 404)).status == 200 else GONE)
            elif kind == "blob":
                equal(c.request("HEAD", f"/v1/blobs/{name}").status, 200, f"blob {name}")

    def settle(self, d):
        pass


class Data(Actor):
    """Data sets, backups, garbage collection."""

    def step(self):
        self.rng.choice((self.synthetic, self.upload, self.drop, self.drop, self.backup, self.gc))()

    def arrived(self, name, reply):
        """A set that is still being read when the daemon dies may become invalid; one that was reported ready stays."""
        if reply.status < 300:
            self.allowed["dataset", name] = {"ready"} if reply.json["state"] == "ready" else {"scanning", "ready", "invalid"}

    def synthetic(self):
        if len(self.have("dataset")) < 5:
            name = self.new("set")
            self.allowed["dataset", name] = {GONE, "scanning", "ready", "invalid"}
            reply = self.send("POST", f"/v1/datasets{self.rng.choice(('', '?wait=20s'))}", {"name": name, "synthetic": {"kind": "glyphs", "train": 40, "test": 10, "seed": self.n}})
            self.arrived(name, reply)

    def upload(self):
        if len(self.have("dataset")) < 5:
            name = self.new("set")
            self.allowed["dataset", name] = {GONE, "scanning", "ready", "invalid"}
            body = tar([(f"{split}/{kind}/{i}.png", noise_png(100 * self.n + i, 8)) for split in ("train", "test") for kind in ("cat", "dog") for i in range(4)])
            self.arrived(name, self.send("PUT", f"/v1/datasets/{name}{self.rng.choice(('', '?wait=20s'))}", body))

    def drop(self):
        if names := self.have("dataset"):
            name = self.rng.choice(names)
            self.change({("dataset", name): GONE}, "DELETE", f"/v1/datasets/{name}")

    def backup(self):
        reply = self.send("POST", "/v1/admin/backup?wait=20s", {})
        if reply.status == 201 and reply.json["state"] == "done":
            self.allowed["backup", reply.json["path"]] = {THERE}

    def gc(self):
        self.send("POST", "/v1/storage:gc?dry_run=" + self.rng.choice("01"))

    def verify(self, d):
        there = {s["name"]: s["state"] for s in d.client.get("/v1/datasets?limit=500").json["items"]}
        for kind, name in list(self.allowed):
            if kind == "dataset":
                state = there.get(name, GONE)
                allowed = self.allowed[kind, name]
                if state == "scanning":
                    check(allowed & {"scanning", "ready"}, f"{name} is scanning, acknowledged {allowed}")
                    self.allowed[kind, name] = {"scanning", "ready", "invalid"}
                else:
                    self.found((kind, name), state)
            elif kind == "backup":
                said = subprocess.run([os.path.join(BUILD, "wasd"), "fsck", "--data", name, "--json"], capture_output=True, text=True)
                # Bytes of a checkpoint whose row was not committed yet may be in it; a daemon that starts there removes them.
                equal((said.returncode, [f for f in json.loads(said.stdout)["found"] if f["kind"] != "leftover"]), (0, []), name)
                shutil.rmtree(name)                                                    # one is enough to look at
                del self.allowed[kind, name]

    def settle(self, d):
        pass


class Sweeps(Actor):
    """Searches over jobs. allowed: what the client last wished."""

    def __init__(self, *args):
        super().__init__(*args)
        self.ids = {}

    def step(self):
        names = self.have("sweep")
        if len(names) < 2:
            return self.submit()
        self.rng.choice((self.steer, self.steer, self.steer, self.delete))(self.rng.choice(names))
        time.sleep(self.rng.random() * 0.1)                                            # the trials get a turn

    def submit(self):
        name = self.new("sweep")
        asha = {"method": "asha", "max_trials": 4, "divisor": 2, "max_epochs": 4, "concurrency": 2, "seed": self.n}
        body = {"name": name, "template": {**SPECS[2], "dataset": "base", "model": {"arch": "lenet"}, "retry": {"max": 100, "backoff_s": 0}},
                "space": {"/train/seed": {"min": 1, "max": 1000, "int": True}}, "search": asha}
        reply = self.change({("sweep", name): THERE, ("steer", name): "run"}, "POST", "/v1/sweeps", body, {"Idempotency-Key": name})
        check(reply.status in (201, 429, 503), reply)
        self.ids[name] = reply.json.get("id")

    def steer(self, name):
        action, wish = self.rng.choice((("pause", "pause"), ("resume", "run"), ("resume", "run"), ("cancel", "cancel")))
        self.change({("steer", name): wish}, "POST", f"/v1/sweeps/{self.ids[name]}:{action}", {})

    def delete(self, name):
        self.change({("sweep", name): GONE}, "DELETE", f"/v1/sweeps/{self.ids[name]}?jobs=delete")

    def verify(self, d):
        rows = d.client.get("/v1/sweeps?limit=500").json["items"]
        named = {w["name"]: w for w in rows}
        equal(len(named), len(rows), "sweeps that are there twice")
        for name in [key[1] for key in self.allowed if key[0] == "sweep"]:
            w = named.get(name)
            self.found(("sweep", name), THERE if w else GONE)
            if not w:
                continue
            self.ids[name] = w["id"]
            states = {"run": {"running", "completed"}, "pause": {"pausing", "paused", "completed"}, "cancel": {"cancelling", "cancelled"}}
            wishes = {wish for wish in self.allowed["steer", name] - {GONE} if w["state"] in states[wish]}
            check(wishes, f"{name} is {w['state']} ({w['message']}), wished {self.allowed['steer', name]}")
            self.allowed["steer", name] = wishes

    def settle(self, d):
        for name in self.have("sweep"):
            while (w := d.client.get(f"/v1/sweeps/{self.ids[name]}?wait=1s").json)["state"] not in ("completed", "cancelled", "failed"):
                if w["state"] in ("pausing", "paused"):
                    d.client.post(f"/v1/sweeps/{w['id']}:resume", {}, want=(200, 202))
                    self.allowed["steer", name] = {"run"}
            check(w["state"] != "failed", w)


class Hooks(Actor):
    """Webhooks of its own, whose values are their URL and whether they are active; nobody answers there."""

    def __init__(self, *args):
        super().__init__(*args)
        self.ids = {}

    def step(self):
        names = self.have("hook")
        name = self.rng.choice(names) if names else None
        if len(names) < 3:
            return self.add()
        self.rng.choice((self.edit, self.edit, self.delete))(name)

    def add(self):
        name, active = self.new("hook"), self.rng.random() < 0.5
        reply = self.change({("hook", name): active}, "POST", "/v1/webhooks", {"url": f"http://127.0.0.1:9/{name}", "events": ["job.state"], "active": active})
        if reply.status == 201:
            self.ids[name] = reply.json["id"]

    def edit(self, name):
        active = self.rng.random() < 0.5
        self.change({("hook", name): active}, "PATCH", f"/v1/webhooks/{self.ids[name]}", {"active": active})

    def delete(self, name):
        self.change({("hook", name): GONE}, "DELETE", f"/v1/webhooks/{self.ids[name]}")

    def verify(self, d):
        rows = {h["url"].rpartition("/")[2]: h for h in d.client.get("/v1/webhooks").json["items"]}
        for name in [key[1] for key in self.allowed if key[0] == "hook"]:
            self.found(("hook", name), rows[name]["active"] if name in rows else GONE)
            if name in rows:
                self.ids[name] = rows[name]["id"]

    def settle(self, d):
        for name in self.have("hook"):
            d.client.delete(f"/v1/webhooks/{self.ids[name]}")
            self.allowed["hook", name] = {GONE}


class Receiver:
    """Gets the events of all jobs by a webhook, and keeps their numbers."""

    def __init__(self, d):
        self.got, outer = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.id = d.client.post("/v1/webhooks", {"url": f"http://127.0.0.1:{self.server.server_port}/", "events": ["job.state"]}, want=201).json["id"]

    def settle(self, d):
        """Every event that the table still has, from the first one at the receiver on, was delivered: in order, some of them again. Returns their number."""
        with sqlite3.connect(f"file:{d.data}/wasd.db?mode=ro", uri=True) as db:
            said = [seq for seq, in db.execute("SELECT seq FROM events WHERE type = 'job.state' ORDER BY seq")]
        last, end = None, 0
        while (hook := d.client.get(f"/v1/webhooks/{self.id}").json)["last_event"] < said[-1]:
            if hook["last_event"] != last:
                last, end = hook["last_event"], time.monotonic() + 60 * PATIENCE
            check(hook["state"] != "inactive" and time.monotonic() < end, f"the receiver waits for event {said[-1]}: {hook}")
            time.sleep(0.1)
        first = max(self.got[0], said[0])                                              # the table keeps the newest events only
        got, said = ([seq for seq in some if seq >= first] for some in (dict.fromkeys(self.got), said))
        equal((got, hook["lost_events"]), (said, 0), "events of jobs at the receiver")
        self.server.shutdown()
        return len(said)


class World:
    def __init__(self, d, seed):
        self.d, self.rng, self.stop, self.striking = d, random.Random(seed), threading.Event(), threading.Event()
        self.reference, self.answers, self.receiver = [], set(), Receiver(d)
        d.glyphs("base", train=200, test=40)
        d.client.request("PATCH", "/v1/queues/night", {"weight": 1}, want=(200, 201))
        for i, spec in enumerate(SPECS):
            job = d.submit(**{**spec, "name": f"reference-{i}", "dataset": "base", "model": {"arch": "lenet"}, "checkpoint": {"keep": {"best": 1, "latest": 8}}})["id"]
            d.wait_job(job)
            self.reference.append(exact(d.series(job, NAMES)))
            if i == 1:
                self.ckpts = [k["id"] for k in d.client.get(f"/v1/jobs/{job}/checkpoints").json["items"]][:4]
        self.file, self.picture = d.client.get(f"/v1/checkpoints/{self.ckpts[0]}/file").body, noise_png(5)
        for i, ckpt in enumerate(self.ckpts):                                         # what each answers
            d.client.post("/v1/deployments?wait=60s", {"name": f"fixed-{i}", "source": {"checkpoint": ckpt}})
            d.wait_deployment(f"fixed-{i}")
            said = d.client.post(f"/v1/deployments/fixed-{i}/classify?logits=1&mode=aom", self.picture, headers={"Content-Type": "image/png"}).json
            self.answers.add(tuple(said["results"][0]["logits"]))
            d.client.delete(f"/v1/deployments/fixed-{i}")
        self.actors = [Jobs(self, "jobs", seed + 1), Models(self, "models", seed + 2), Data(self, "data", seed + 3), Sweeps(self, "sweeps", seed + 4),
                       Hooks(self, "hooks", seed + 5)]

    def strike(self):
        """Kills the daemon, or an engine of any role that runs now. Returns what was killed."""
        running = engines(self.d)
        role = self.rng.choice(["daemon"] * max(1, len(running)) + sorted(running))
        check(self.d.alive(), f"the daemon has died by itself: status {self.d.process.poll()}")
        if role != "daemon":
            for pid in running[role][:1]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return role
        os.kill(self.d.pid, signal.SIGSTOP)                                            # from now on it starts no engine: all of them are known
        left = children(self.d)
        self.striking.set()
        self.d.kill()
        end = time.monotonic() + 60 * PATIENCE
        while not all(map(gone, left)):
            check(time.monotonic() < end, f"processes {[p for p in left if not gone(p)]} outlive the daemon")
            time.sleep(0.01)
        return role

    def round(self, states, asked):
        """One kill under load. Returns what was killed."""
        self.stop.clear()
        self.striking.clear()
        threads = [threading.Thread(target=a.live) for a in self.actors]
        for t in threads:
            t.start()
        time.sleep(self.rng.random() ** 2 * 1.2)                                       # a random moment
        asked.update(a.now for a in self.actors if a.now)
        role = self.strike()
        if role != "daemon":
            time.sleep(self.rng.random() * 0.1)
        self.stop.set()
        self.striking.set()
        for t in threads:
            t.join()
        check(role == "daemon" or self.d.alive(), f"the daemon has died after a kill of {role}: status {self.d.process.poll()}")
        equal([f for a in self.actors for f in a.failures], [], f"kill of {role}")
        if role == "daemon":
            states.update(integrity(self.d.data))
            self.fsck(("fault",))
            self.d.start()
        for a in self.actors:
            a.verify(self.d)
        return role

    def fsck(self, kinds):
        said = subprocess.run([os.path.join(BUILD, "wasd"), "fsck", "--data", self.d.data, "--json"], capture_output=True, text=True)
        check(said.stdout, said.stderr)
        equal([f for f in json.loads(said.stdout)["found"] if f["kind"] in kinds], [], "fsck")


def run(d, kills, seed, told=lambda i: None):
    """Returns a summary; raises for whatever was lost."""
    w, killed, states, asked = World(d, seed), collections.Counter(), collections.Counter(), collections.Counter()
    for i in range(kills):
        try:
            killed[w.round(states, asked)] += 1
        except Exception as e:
            raise AssertionError(f"kill {i + 1} of seed {seed}: {e}") from e
        told(i + 1)
    w.actors[3].settle(d)                                                              # its jobs go on by themselves
    ends = w.actors[0].settle(d)
    w.actors[4].settle(d)
    for a in w.actors:
        a.verify(d)
    events = w.receiver.settle(d)
    left = children(d)
    equal(d.stop(), 0, "exit status after SIGTERM")
    check(all(map(gone, left)), "a process outlives the daemon")
    w.fsck(("fault", "leftover"))
    equal(os.listdir(os.path.join(d.data, "staging")), [], "staging")
    equal([f for f in glob.glob(os.path.join(d.data, "**"), recursive=True) if ".tmp-" in f or f.endswith(".partial")], [], "temporary files")
    d.start()
    return {"events": events, "killed": killed, "states": states, "asked": asked, "ends": ends, "compared": len(w.actors[0].compared), "changes": sum(n for a in w.actors for (_, s), n in a.counts.items() if s == 2),
            "refused": sum(n for a in w.actors for (_, s), n in a.counts.items() if s == 4), "kinds": len({k for a in w.actors for (k, s) in a.counts if s == 2})}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=300)
    p.add_argument("--seed", type=int, default=20261130)
    a = p.parse_args()
    began = time.monotonic()
    with Daemon(args=["--workers", "2"]) as d:
        s = run(d, a.kills, a.seed, lambda i: i % 10 or print(f"{i} kills, {time.monotonic() - began:.0f} s", flush=True))
    print(f"{a.kills} kills (seed {a.seed}): {dict(s['killed'])}; {s['changes']} changes of {s['kinds']} kinds acknowledged, {s['refused']} refused; 0 lost")
    print(f"{s['events']} events of jobs delivered in order; {s['compared']} completed jobs equal an undisturbed one; the last jobs ended {dict(s['ends'])}")
    print("jobs at the kills of the daemon:", ", ".join(f"{n} {state}" for state, n in s["states"].most_common()))
    print("requests at the kills:", ", ".join(f"{n} {what}" for what, n in s["asked"].most_common()))


if __name__ == "__main__":
    main()
