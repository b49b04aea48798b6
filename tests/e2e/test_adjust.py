#!/usr/bin/python3
"""Network adjustment: a search of widths trains, measures and adjusts networks one after the other; it ends with the same networks when the daemon
is killed in the middle, and what is refused."""
from lib import Daemon, case, check, equal, finish, ranking


def block(out):
    return [{"type": "conv", "out": out, "bias": False}, {"type": "batchnorm"}, {"type": "relu"}, {"type": "dropchannel"}]


LAYERS = [*block(8), {"type": "maxpool", "kernel": 4, "name": "in"}, *block(16), {"type": "addpad", "from": ["in", "dropchannel8"]},
          *block(16), {"type": "globalpool"}, {"type": "flatten"}, {"type": "linear", "out": "classes"}]
AT = (0, 5, 10)   # the searched convolutions
SEARCH = {"name": "widths", "search": {"method": "channels", "iterations": 2, "metric": "val_loss_aom"},
          "template": {"dataset": "glyphs", "model": {"name": "tiny", "layers": LAYERS}, "was": False,
                       "train": {"epochs": 2, "batch": 32, "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9}},
                       "adjust": {"times": 2, "update": 1, "update_decay": 0, "step": 0.25}}}


def trials_of(sweep):
    return sorted(sweep["trials"], key=lambda t: t["trial"])


def networks(c, sweep):
    return [c.get(f"/v1/jobs/{t['job']}").json["model"] for t in trials_of(sweep)]


with Daemon() as d:
    c = d.client
    d.glyphs(train=300, test=50)

    with case("two iterations make three networks of equal multiply-adds, the last in the spec's own form"):
        first = c.post("/v1/sweeps", SEARCH, want=201).json
        equal([t["values"] for t in trials_of(first)], [{}, None, None])
        calm = d.wait_sweep(first["id"], "completed")
        nets, trials = networks(c, calm), trials_of(calm)
        equal(nets[0]["layers"], LAYERS)
        for net, trial in zip(nets[1:], trials[1:]):
            equal([net["layers"][i]["out"] for i in AT], trial["values"]["channels"])
            for now, before in zip(net["layers"], LAYERS):
                equal({k: v for k, v in now.items() if k != "out"}, {k: v for k, v in before.items() if k != "out"})
        check(nets[0] != nets[1] != nets[2], f"widths: {[t['values'] for t in trials]}")
        jobs = [c.get(f"/v1/jobs/{t['job']}").json for t in trials]
        found = [c.get(f"/v1/jobs/{j['id']}/checkpoints").json["items"][0]["info"].get("adjusted") for j in jobs]
        base = found[0]["macs"]
        for f, trial in zip(found, trials[1:]):
            equal((len(f["fur"]), len(f["rates"])), (3, 3))
            check(abs(trial["values"]["macs"] - base) < 0.2 * base, f"{trial['values']} for {base}")
        equal([f["channels"] for f in found[:2]], [[8, 16, 16], trials[1]["values"]["channels"]])
        equal((found[2], jobs[2].get("adjust")), (None, None))
        equal([j["adjust"].get("iteration", 1) for j in jobs[:2]], [1, 2])
        equal((jobs[1]["adjust"]["first"], jobs[1]["adjust"]["macs"]), ([8, 16, 16], base))

    with case("the same networks, values and ranking when the daemon is killed three times"):
        sweep = c.post("/v1/sweeps", SEARCH, want=201).json["id"]
        d.wait_results(sweep, 1)
        d.kill()
        d.start()
        c = d.client
        second = trials_of(d.wait_sweep(sweep, "running", such=lambda w: trials_of(w)[1]["epoch"] >= 1))[1]
        check(second["job"], second)
        d.kill()
        d.start()
        d.wait_results(sweep, 2)
        d.kill()
        d.start()
        c = d.client
        killed = d.wait_sweep(sweep, "completed")
        equal(ranking(killed), ranking(calm))
        equal(networks(c, killed), nets)

    with case("the job of the last network is an ordinary one: its spec trains it again"):
        last = c.get(f"/v1/jobs/{trials[2]['job']}").json
        spec = dict(SEARCH["template"], model=last["model"])
        del spec["adjust"]
        again = d.submit(**spec)["id"]
        d.wait_job(again)
        equal(d.series(again, "train_loss,val_loss_aom"), d.series(last["id"], "train_loss,val_loss_aom"))

    with case("a trial that fails ends those behind it"):
        broken = dict(SEARCH, template=dict(SEARCH["template"], train={"epochs": 2, "batch": 32, "optimizer": {"type": "sgd", "lr": 1000}}))
        w = d.wait_sweep(c.post("/v1/sweeps", broken, want=201).json["id"], "failed")
        equal([(t["state"], t["reason"]) for t in trials_of(w)], [("failed", "nan_loss"), ("failed", "bad_data"), ("failed", "bad_data")])

    with case("errors name their place"):
        def search(**change):
            return {"search": dict(SEARCH["search"], **change)}

        for change, pointer in (
                ({"space": {"/train/seed": {"values": [1]}}}, "/space"),
                ({"template": dict(SEARCH["template"], model={"arch": "lenet"})}, "/template/model"),
                (search(max_trials=3), "/search/max_trials"),
                (search(divisor=3), "/search/divisor"),
                (search(iterations=0), "/search/iterations"),
                (search(method="grid"), "/search/iterations"),
                ({"template": dict(SEARCH["template"], adjust={"rate": 1})}, "/template/adjust/rate")):
            answer = c.post("/v1/sweeps", {**SEARCH, **change}, want=422).json
            check(pointer in [e["pointer"] for e in answer["errors"]], f"{change}: {answer['errors']}, want {pointer}")

finish()
