#!/usr/bin/python3
"""`wasd sweep`: submits a sweep and follows it, lists and shows sweeps, pauses, resumes and cancels them; errors name their place in the file."""
import json, os, subprocess

from lib import BUILD, Daemon, case, check, directory, equal, finish

SWEEP = {"name": "rates", "template": {"dataset": "glyphs", "model": {"arch": "lenet"}, "was": False, "train": {"epochs": 1}},
         "space": {"/train/optimizer/lr": {"values": [0.01, 0.1]}}, "search": {"method": "grid"}}

with Daemon() as d:
    d.glyphs(train=100, test=20)
    where = directory()
    with open(os.path.join(where, "rates.json"), "w") as f:
        json.dump(SWEEP, f)

    def wasd(*words, want=0):
        done = subprocess.run([os.path.join(BUILD, "wasd"), *words, "--url", f"http://127.0.0.1:{d.port}"], cwd=where, capture_output=True, text=True)
        equal(done.returncode, want, f"wasd {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout if want == 0 else done.stderr

    with case("a sweep is submitted and watched to its end; its trials are listed, the best first"):
        said = wasd("sweep", "rates.json", "--watch").splitlines()
        sweep = said[0]
        check(sweep.startswith("swp_"), said)
        at = next(i for i, line in enumerate(said) if line.startswith("RANK"))
        check(said[at - 1].startswith("rates is completed: 2 trials, 2 completed; best "), said)
        equal([line.split()[0] for line in said[at:]], ["RANK", "1", "2"])
        equal(sorted(line.split()[-1] for line in said[at + 1:]), ["lr=0.01", "lr=0.1"])
        equal("\n".join(said[at - 1:]) + "\n", wasd("sweep", "show", "rates"))
        whole = json.loads(wasd("sweep", "show", sweep, "--json"))
        equal((whole["id"], len(whole["trials"])), (sweep, 2))
        row = wasd("sweep", "list").splitlines()[1].split()
        equal((row[0], row[1], row[2], row[3], row[-1]), (sweep, "completed", "2", "2", "rates"))

    with case("--set changes the file, --dry-run submits nothing, errors name their place"):
        dry = json.loads(wasd("sweep", "rates.json", "--set", "search.method=random", "--set", "search.max_trials=1", "--dry-run"))
        equal((len(dry["trials"]), dry["search"]["method"]), (1, "random"))
        equal(len(json.loads(wasd("sweep", "list", "--json"))["items"]), 1)
        check("/space/~1train~1optimizer~1lr" in wasd("sweep", "rates.json", "--set", 'space={"/train/optimizer/lr":{"values":["fast"]}}', want=1), "where the error is")
        check("no sweep has the id or the name none" in wasd("sweep", "show", "none", want=1), "an unknown name")
        wasd("sweep", want=2)

    with case("a sweep is paused, resumed and cancelled by its name; --wait exits with the outcome"):
        sweep = wasd("sweep", "rates.json", "--set", "name=long", "--set", "search.max_epochs=100000").strip()
        check(wasd("sweep", "pause", "long").startswith(f"{sweep} is paus"), "it is paused, or will be")
        equal(wasd("sweep", "resume", "long", "--reason", "on"), f"{sweep} is running\n")
        check(wasd("sweep", "cancel", "long", "--reason", "seen enough").startswith(f"{sweep} is cancel"), "it is cancelled, or will be")
        d.wait_sweep(sweep, "cancelled")
        wasd("sweep", "rates.json", "--set", "template.dataset=none", "--wait", want=1)
finish()
