#!/usr/bin/python3
"""200 mode switches under 8 clients that send requests continuously: no request fails, the logits of every answer equal, bit for bit, those
of the bundle of its generation, and requests sent after a switch was acknowledged are never answered by the old bundle."""
import threading

from lib import SANITIZED, Client, Daemon, case, check, equal, finish, noise_png

SWITCHES = 40 if SANITIZED else 200
CLIENTS, IMAGES = 8, 6
PATH = "/v1/deployments/live/classify?logits=1&k=1"
PNG = {"Content-Type": "image/png"}

with Daemon() as d:
    with case(f"{SWITCHES} switches under {CLIENTS} clients"):
        d.glyphs(train=600, test=100)
        job = d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 1, "batch": 50, "seed": 3})
        d.wait_job(job["id"])
        d.deploy("live", job["id"])
        images = [noise_png(i) for i in range(IMAGES)]
        logits = lambda client, i, mode="": client.post(PATH + mode, images[i], want=200, headers=PNG).json
        want = {mode: [logits(d.client, i, f"&mode={mode}")["results"][0]["logits"] for i in range(IMAGES)] for mode in ("aom", "dom")}
        check(all(a != b for a, b in zip(want["aom"], want["dom"])), "the two bundles answer differently")

        mode_of = {1: "aom"}                           # generation -> mode, as the server acknowledged it
        acknowledged, stop = [1], threading.Event()
        answered, failures, changed = [0], [], threading.Condition()
        answers = []

        def client(number):
            c, n = Client(d.port), number
            while not stop.is_set():
                n += 1
                before = acknowledged[0]
                try:
                    a = logits(c, n % IMAGES)
                except Exception as e:
                    failures.append(f"client {number}: {e}")
                    stop.set()
                else:
                    answers.append((before, n % IMAGES, a["mode"], a["generation"], a["results"][0]["logits"]))
                with changed:
                    answered[0] += 1
                    changed.notify()

        threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
        for t in threads:
            t.start()
        swaps, mode = [], "aom"
        for _ in range(SWITCHES):
            with changed:                              # some traffic on every generation
                target = answered[0] + 3
                check(changed.wait_for(lambda: answered[0] >= target or stop.is_set(), 60), "the clients are stuck")
            if stop.is_set():
                break
            mode = "dom" if mode == "aom" else "aom"
            done = d.client.put("/v1/deployments/live/mode", {"mode": mode}, want=200).json
            mode_of[done["generation"]] = mode
            acknowledged[0] = done["generation"]
            swaps.append(done["swap_us"])
        stop.set()
        for t in threads:
            t.join()
        equal(failures, [])
        equal(sorted(mode_of), list(range(1, SWITCHES + 2)), "one generation per switch")
        for before, image, mode, generation, got in answers:
            equal(mode, mode_of[generation], f"generation {generation}")
            equal(got, want[mode][image], f"logits of image {image} in generation {generation} ({mode})")
            check(generation >= before, f"an answer of generation {generation} to a request sent after {before} was acknowledged")
        used = {a[3] for a in answers}
        check(len(used) > SWITCHES * 0.8, f"only {len(used)} generations answered")
        swaps.sort()
        print(f"# {len(answers)} answers from {len(used)} generations, median swap {swaps[len(swaps) // 2]} us")

    with case("every switch has an audit record"):
        rows, cursor = [], ""
        while True:
            page = d.client.get(f"/v1/audit?object=deployment/live&limit=100{cursor}").json
            rows += page["items"]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        equal(len([r for r in rows if "mode" in r["action"]]), SWITCHES)

    with case("concurrent switches: the last one committed wins, generations never repeat"):
        seen, barrier = [], threading.Barrier(8)

        def switch(number):
            c = Client(d.port)
            barrier.wait()
            for n in range(6):
                seen.append(c.put("/v1/deployments/live/mode", {"mode": "aom" if (n + number) % 2 else "dom"}, want=200).json)

        threads = [threading.Thread(target=switch, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        equal(len(seen), 48)
        made = {}
        for s in seen:
            equal(made.setdefault(s["generation"], s["mode"]), s["mode"], f"generation {s['generation']}")
        now = d.client.get("/v1/deployments/live/mode").json
        equal((now["generation"], now["mode"]), (max(made), made[max(made)]))

finish()
