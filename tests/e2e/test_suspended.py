#!/usr/bin/python3
"""A deployment whose requests repeatedly kill the inference process is suspended and says how it can be resumed; the other one keeps answering."""
import os, signal, threading, time

from lib import PATIENCE, Client, Daemon, case, check, equal, finish, noise_png

PNG = {"Content-Type": "image/png"}


def zeros(*shape):
    n = 1
    for s in shape:
        n *= s
    return "F32", list(shape), bytes(4 * n)


def network(width, convs):
    """The work of a request grows with width squared times convs."""
    layers = [{"type": "conv", "name": "in", "out": width, "kernel": 3, "bias": False}]
    layers += [{"type": "conv", "name": f"c{i}", "out": width, "kernel": 3, "bias": False} for i in range(convs)]
    layers += [{"type": "maxpool", "kernel": 8}, {"type": "flatten"}, {"type": "linear", "name": "head", "out": "classes"}]
    tensors = {"in.weight": zeros(width, 3, 3, 3), "head.weight": zeros(2, 16 * width), "head.bias": zeros(2)}
    tensors |= {f"c{i}.weight": zeros(width, width, 3, 3) for i in range(convs)}
    return {"name": "net", "layers": layers}, tensors, ["a", "b"], [3, 32, 32]


with Daemon() as d:
    c, image = d.client, noise_png(1)
    d.import_network("small", *network(4, 1))
    d.import_network("slow", *network(256, 12))
    many = [{"name": "input", "shape": [8, 3, 32, 32], "datatype": "FP32", "data": [0] * (8 * 3072)}]

    def ask(name, client=c):
        return client.request("POST", f"/v1/deployments/{name}/classify", image, headers=PNG)

    def kill_at_work():
        """Sends SIGKILL while the process computes for "slow", recognised by its growing processor time."""
        pid, = d.engines("infer")
        cpu = lambda: sum(map(int, open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[11:13]))
        before, answer = cpu(), []
        t = threading.Thread(target=lambda: answer.append(Client(d.port).request("POST", "/v2/models/slow/infer", {"inputs": many})))
        t.start()
        while cpu() < before + 2 and t.is_alive():
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        t.join()
        equal(answer[0].status, 503, "the request at which it was killed")

    def until(predicate, what):
        end = time.monotonic() + 60 * PATIENCE
        while not predicate():
            check(time.monotonic() < end, what)
            time.sleep(0.02)

    with case("five crashes caused by one deployment: it is suspended, the other answers"):
        for _ in range(5):
            until(lambda: ask("slow").status == 200, "slow does not come back")
            kill_at_work()
        aside = ask("slow")
        equal((aside.status, aside.json["code"]), (503, "suspended"), repr(aside))
        check(1 <= int(aside.headers["Retry-After"]) <= 60, aside.headers["Retry-After"])
        check("signal 9" in aside.json["detail"] and "POST /v1/deployments/slow:reload" in aside.json["detail"], aside.json["detail"])
        until(lambda: ask("small").status == 200, "small does not come back")
        equal(ask("slow").json["code"], "suspended")
        c.get("/v2/models/slow/ready", want=503)
        health = c.get("/v2/health/ready", want=200).json
        equal((health["ready"], health["suspended"]), (True, ["slow"]))
        object = c.get("/v1/deployments/slow").json
        equal((object["state"], object["conditions"][0]["type"]), ("ready", "Suspended"))
        equal((c.get("/v1/deployments/small").json["conditions"], c.get("/v1/system").json["serving"]["suspended"]), ([], ["slow"]))
        audit = c.get("/v1/audit?object=deployment/slow&limit=1").json["items"][0]
        equal((audit["action"], audit["actor"]), ("deployment.suspend", "daemon"))

    with case("it is resumed on request"):
        c.post("/v1/deployments/slow:reload", want=202)
        until(lambda: ask("slow").status == 200, "slow does not come back")
        equal((c.get("/v1/deployments/slow").json["conditions"], "suspended" in c.get("/v2/health/ready").json), ([], False))
        equal(c.get("/v1/deployments/slow").json["message"], None)

finish()
