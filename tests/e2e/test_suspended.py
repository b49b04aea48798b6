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
    layers = [{"type": "conv", "name": "in", "out": width, "kernel": 3, "bias": False}]
    layers += [{"type": "conv", "name": f"c{i}", "out": width, "kernel": 3, "bias": False} for i in range(convs)]
    layers += [{"type": "maxpool", "kernel": 8}, {"type": "flatten"}, {"type": "linear", "name": "head", "out": "classes"}]
    tensors = {"in.weight": zeros(width, 3, 3, 3), "head.weight": zeros(2, 16 * width), "head.bias": zeros(2)}
    tensors |= {f"c{i}.weight": zeros(width, width, 3, 3) for i in range(convs)}
    return {"name": "net", "layers": layers}, tensors, ["a", "b"], [3, 32, 32]


with Daemon() as d:
    c, image = d.client, noise_png(1)
    d.import_network("small", *network(4, 1))
    d.import_network("fatal", *network(4, 2))

    def ask(name, client=c):
        return client.request("POST", f"/v1/deployments/{name}/classify", image, headers=PNG)

    def questions():
        return c.get("/v1/system").json["serving"]["calls"]

    def kill_at_work():
        """Sends SIGKILL while the process has a question for "fatal", which it cannot answer: it is stopped before."""
        until(lambda: questions() == 0, "the process does not answer")
        pid, = d.engines("infer")
        os.kill(pid, signal.SIGSTOP)
        answer = []
        t = threading.Thread(target=lambda: answer.append(ask("fatal", Client(d.port))))
        t.start()
        until(lambda: questions() == 1, "the question does not arrive")
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
            until(lambda: ask("fatal").status == ask("small").status == 200, "they do not come back")      # nothing is loaded any more
            kill_at_work()
        aside = ask("fatal")
        equal((aside.status, aside.json["code"]), (503, "suspended"), repr(aside))
        check(1 <= int(aside.headers["Retry-After"]) <= 60, aside.headers["Retry-After"])
        check("signal 9" in aside.json["detail"] and "POST /v1/deployments/fatal:reload" in aside.json["detail"], aside.json["detail"])
        until(lambda: ask("small").status == 200, "small does not come back")
        equal(ask("fatal").json["code"], "suspended")
        c.get("/v2/models/fatal/ready", want=503)
        health = c.get("/v2/health/ready", want=200).json
        equal((health["ready"], health["suspended"]), (True, ["fatal"]))
        object = c.get("/v1/deployments/fatal").json
        equal((object["state"], object["conditions"][0]["type"]), ("ready", "Suspended"))
        equal((c.get("/v1/deployments/small").json["conditions"], c.get("/v1/system").json["serving"]["suspended"]), ([], ["fatal"]))
        audit = c.get("/v1/audit?object=deployment/fatal&limit=1").json["items"][0]
        equal((audit["action"], audit["actor"]), ("deployment.suspend", "daemon"))

    with case("it is resumed on request"):
        c.post("/v1/deployments/fatal:reload", want=202)
        until(lambda: ask("fatal").status == 200, "fatal does not come back")
        equal((c.get("/v1/deployments/fatal").json["conditions"], "suspended" in c.get("/v2/health/ready").json), ([], False))
        equal(c.get("/v1/deployments/fatal").json["message"], None)

finish()
