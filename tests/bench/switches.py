#!/usr/bin/python3
"""Mode switches and version swaps under load: connections that are kept open send binary tensors all the time, while the deployment's mode is switched and its
source is patched. Every answer is compared bit for bit with the logits of the version and mode that it names; they are known from a deployment of each checkpoint
that is never changed. A request that was sent after a switch or a swap was acknowledged must not be answered by an earlier generation.

  tests/bench/switches.py                                  # 1,000 switches and 20 swaps under 64 connections
  tests/bench/switches.py --switches 50 --swaps 3 --connections 8

tests/e2e/test_updates.py runs the small form, tests/e2e/test_kinds.py one with every kind of mode."""
import argparse, json, os, random, socket, statistics, struct, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from lib import PATIENCE, Client, Daemon, check, equal

IMAGES = 4
MODES = ("aom", "dom")


class Connection:
    """One keep-alive connection that sends an image as a binary tensor and reads the logits as bytes."""

    def __init__(self, port, name, shape, images):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(60 * PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.requests = []
        for image in images:
            head = json.dumps({"inputs": [{"name": "input", "shape": [1, *shape], "datatype": "FP32", "parameters": {"binary_data_size": len(image)}}],
                               "outputs": [{"name": "logits", "parameters": {"binary_data": True}}]}).encode()
            self.requests.append(f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(head)}\r\n"
                                 f"Content-Length: {len(head) + len(image)}\r\n\r\n".encode() + head + image)

    def ask(self, image):
        """(version, generation, mode, logits)"""
        self.socket.sendall(self.requests[image])
        status = self.file.readline()
        headers = {}
        while (line := self.file.readline().strip()):
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        body = self.file.read(int(headers[b"content-length"]))
        if b" 200 " not in status:
            raise AssertionError(f"{status.decode().strip()}: {body[:300]!r}")
        n = int(headers[b"inference-header-content-length"])
        said = json.loads(body[:n])
        return int(said["model_version"]), said["parameters"]["was_generation"], said["parameters"]["was_mode"], body[n:]

    def close(self):
        self.file.close()
        self.socket.close()


def prepare(d, versions):
    """A job with that many checkpoints, and their ids."""
    d.glyphs(train=400, test=50)
    job = d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": versions, "batch": 50, "seed": 3},
                   checkpoint={"every": 1, "keep": {"best": 1, "latest": versions}})
    d.wait_job(job["id"])
    items = d.client.get(f"/v1/jobs/{job['id']}/checkpoints").json["items"]
    equal(len(items), versions)
    return [c["id"] for c in reversed(items)]


def run(d, checkpoints, connections, switches, swaps, modes=MODES):
    """Returns a summary; raises for a failed request or a wrong answer. modes: of every checkpoint, ready; aom is the first."""
    c, r = d.client, random.Random(5)
    shape = (3, 32, 32)
    images = [struct.pack("<3072f", *(r.uniform(-1, 1) for _ in range(3072))) for _ in range(IMAGES)]
    reference = {}
    for k in checkpoints:
        name = "fixed-" + k[-8:].lower()
        c.post("/v1/deployments", {"name": name, "source": {"checkpoint": k}})
        d.wait_deployment(name)
        for mode in modes:
            c.put(f"/v1/deployments/{name}/mode", {"mode": mode})
            one = Connection(d.port, name, shape, images)
            reference[k, mode] = [one.ask(i)[3] for i in range(IMAGES)]
            one.close()
        c.delete(f"/v1/deployments/{name}")
    equal(len({tuple(v) for v in reference.values()}), len(reference), "every version and mode answers differently")

    c.post("/v1/deployments", {"name": "live", "source": {"checkpoint": checkpoints[0]}})
    d.wait_deployment("live")
    served, mode_of = {1: checkpoints[0]}, {1: "aom"}      # version -> checkpoint; generation -> mode, as the server acknowledged them
    acknowledged, stop, failures, changed, answered = [1], threading.Event(), [], threading.Condition(), [0]
    answers = []

    def client(number):
        try:
            one, n, mine = Connection(d.port, "live", shape, images), number, []
            while not stop.is_set():
                n += 1
                before = acknowledged[0]
                mine.append((before, n % IMAGES, *one.ask(n % IMAGES)))
                with changed:
                    answered[0] += 1
                    changed.notify()
            one.close()
            answers.extend(mine)
        except Exception as e:
            failures.append(f"connection {number}: {e!r}")
            stop.set()

    def some_traffic(n):
        with changed:
            target = answered[0] + n
            check(changed.wait_for(lambda: answered[0] >= target or stop.is_set(), 60 * PATIENCE), "the clients are stuck")

    threads = [threading.Thread(target=client, args=(i,)) for i in range(connections)]
    for t in threads:
        t.start()
    switch_us, whole_us, swap_us, mode, version = [], [], [], "aom", 1
    at_swap = {round((i + 1) * switches / (swaps + 1)) for i in range(swaps)}
    for i in range(switches):
        if stop.is_set():
            break
        some_traffic(3)
        mode = r.choice([m for m in modes if m != mode])
        t0 = time.monotonic()
        done = c.put("/v1/deployments/live/mode", {"mode": mode}, want=200).json
        whole_us.append((time.monotonic() - t0) * 1e6)
        mode_of[done["generation"]] = mode
        acknowledged[0] = done["generation"]
        switch_us.append(done["swap_us"])
        if i + 1 not in at_swap:
            continue
        version += 1
        served[version] = checkpoints[(version - 1) % len(checkpoints)]
        now = c.request("PATCH", "/v1/deployments/live?wait=60s", {"source": {"checkpoint": served[version]}}, want=200).json
        equal((now["version"], now["checkpoint"], now["mode"]), (version, served[version], mode))
        mode_of[now["generation"]] = mode
        acknowledged[0] = now["generation"]
        swap_us.append(now["swap_us"])
    some_traffic(3)
    stop.set()
    for t in threads:
        t.join()
    equal(failures, [])
    equal((len(switch_us), len(swap_us)), (switches, swaps))
    equal(sorted(mode_of), list(range(1, switches + swaps + 2)), "one generation for each switch and swap")
    wrong = 0
    for before, image, version, generation, mode, logits in answers:
        equal(mode, mode_of[generation], f"mode of generation {generation}")
        check(generation >= before, f"an answer of generation {generation} to a request sent after {before} was acknowledged")
        wrong += logits != reference[served[version], mode][image]
    equal(wrong, 0, "answers that are not those of their version and mode")
    return {"answers": len(answers), "generations": len({a[3] for a in answers}), "versions": len({a[2] for a in answers}),
            "switch_us": sorted(switch_us), "whole_us": sorted(whole_us), "swap_us": sorted(swap_us)}


def spread(us):
    return f"{statistics.median(us):.0f} | {us[int(len(us) * 0.99)]:.0f} | {us[-1]:.0f}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--switches", type=int, default=1000)
    p.add_argument("--swaps", type=int, default=20)
    p.add_argument("--connections", type=int, default=64)
    p.add_argument("--versions", type=int, default=4, help="different checkpoints, served in turn")
    a = p.parse_args()
    with Daemon() as d:
        s = run(d, prepare(d, a.versions), a.connections, a.switches, a.swaps)
    print(f"{a.connections} connections: {s['answers']} answers of {s['generations']} generations and {s['versions']} versions, 0 failed, 0 wrong")
    print("| µs | number | median | p99 | most |\n| --- | ---: | ---: | ---: | ---: |")
    print(f"| mode switch: from its commit until it is live | {a.switches} | {spread(s['switch_us'])} |")
    print(f"| the whole request, with the durable commit | {a.switches} | {spread(s['whole_us'])} |")
    print(f"| version swap: from its commit until it is live | {a.swaps} | {spread(s['swap_us'])} |")


if __name__ == "__main__":
    main()
