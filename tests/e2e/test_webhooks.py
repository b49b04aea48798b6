#!/usr/bin/python3
"""Webhooks with a real receiver that refuses, is silent, redirects and goes away, and with kill -9 of the daemon in between: every event
arrives at least once and in order, and its signature is right."""
import hashlib, hmac, http.server, json, os, queue, subprocess, threading, time

from lib import BUILD, PATIENCE, Client, Daemon, case, check, equal, finish

SECRET = "a secret of the test"


class Receiver:
    """Answers each POST with the next of `plan` (then 204), and keeps what it accepted. "hold" waits until release is set and does not answer, "late" then answers 204."""

    def __init__(self, port=0):
        self.got, self.plan, self.release, outer = queue.Queue(), [], threading.Event(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.plan.pop(0) if outer.plan else 204
                if status in ("hold", "late"):
                    outer.release.wait(60 * PATIENCE)
                    if status == "hold":
                        return
                    status = 204
                outer.got.put((status, dict(self.headers), body))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{outer.port}/elsewhere")
                long = b"x" * (1 << 20) if status == 201 else b""
                self.send_header("Content-Length", str(len(long)))
                self.end_headers()
                try:
                    self.wfile.write(long)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self):
        status, headers, body = self.got.get(timeout=30 * PATIENCE)
        want = hmac.new(SECRET.encode(), headers["X-Wasd-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
        equal(headers["X-Wasd-Signature-256"], "sha256=" + want, "signature")
        event = json.loads(body)
        equal(headers["X-Wasd-Event"], event["type"])
        return status, headers, event

    def close(self):
        self.server.shutdown()
        self.server.server_close()


with Daemon(args=["--webhook-retry-ms", "50", "--webhook-timeout-ms", "60000"]) as d:      # an answer that is late would make events come twice
    c, r = d.client, Receiver()
    hook = c.post("/v1/webhooks", {"url": f"http://127.0.0.1:{r.port}/wasd", "events": ["queue.updated"], "secret": SECRET}, want=201)
    at = hook.headers["Location"]
    serial = 0

    def make_event(client=None):
        """An event queue.updated; returns its number, which is the queue's weight."""
        global serial
        serial += 1
        (client or d.client).request("PATCH", "/v1/queues/default", {"weight": serial}, want=200)
        return serial

    def deliveries():
        return d.client.get(at + "/deliveries").json["items"]

    def settled():
        """The hook once it has no failed attempts behind it."""
        end = time.monotonic() + 30 * PATIENCE
        while (w := d.client.get(at).json)["failures"]:
            check(time.monotonic() < end, w)
            time.sleep(0.02)
        return w

    with case("an event arrives once, signed; the secret is not shown"):
        check("secret" not in hook.json and SECRET not in c.get("/v1/webhooks").body.decode(), "no secret")
        n = make_event()
        status, headers, event = r.next()
        equal((event["topic"], event["object"], event["data"]["weight"]), ("jobs", "default", n))
        equal(headers["X-Wasd-Delivery"], f"{hook.json['id']}-{event['id']}")
        audit = c.get(f"/v1/audit?object=webhook/{hook.json['id']}").json["items"]
        equal([a["action"] for a in audit], ["webhook.create"])
        check(SECRET not in json.dumps(audit), "no secret in the audit")

    with case("a refused event is sent again with the same id, before the next one"):
        r.plan = [500, 302]
        first, second = make_event(), make_event()
        tries = [r.next() for _ in range(4)]
        equal([t[0] for t in tries], [500, 302, 204, 204])
        equal([t[2]["data"]["weight"] for t in tries], [first, first, first, second])
        equal(len({t[1]["X-Wasd-Delivery"] for t in tries[:3]}), 1)
        settled()
        rows = [x for x in deliveries() if x["event"] == tries[0][2]["id"]][::-1]
        equal([(x["attempt"], x["state"], x["status"]) for x in rows], [(1, "failed", 500), (2, "failed", 302), (3, "delivered", 204)])
        check("redirects are not followed" in rows[1]["error"], rows[1])

    with case("a receiver that answers without end is given up and tried again"):
        r.plan = [201]
        n = make_event()
        equal([(s, e["data"]["weight"]) for s, _, e in (r.next(), r.next())], [(201, n), (204, n)])
        settled()
        errors = [x["error"] or "" for x in deliveries()[:2]]
        check("longer than 64 KiB" in errors[1], errors)

    with case("the receiver is away and the daemon is killed: every event comes later, in order"):
        port = r.port
        r.close()
        numbers = [make_event() for _ in range(5)]
        end = time.monotonic() + 30 * PATIENCE
        while not c.get(at).json["failures"]:
            check(time.monotonic() < end, "an attempt fails")
        equal(c.get(at).json["state"], "failing")
        d.kill()
        d.start()
        c = d.client
        numbers += [make_event() for _ in range(3)]
        r = Receiver(port)
        equal([r.next()[2]["data"]["weight"] for _ in numbers], numbers)

    with case("killed while the receiver has the event but its answer is not recorded: the event comes again"):
        r.release.clear()
        r.plan = ["hold"]
        n = make_event()
        end = time.monotonic() + 30 * PATIENCE
        while r.plan:
            check(time.monotonic() < end, "the event is being sent")
            time.sleep(0.01)
        d.kill()
        r.release.set()
        d.start()
        c = d.client
        event = r.next()[2]
        equal(event["data"]["weight"], n)
        end = time.monotonic() + 30 * PATIENCE
        while not any(x["event"] == event["id"] and x["state"] == "delivered" for x in deliveries()):
            check(time.monotonic() < end, deliveries())

    with case("changed while the old receiver has the event: its late answer does not count, the event goes to the new URL"):
        settled()
        r.release.clear()
        r.plan = ["late"]
        n = make_event()
        end = time.monotonic() + 30 * PATIENCE
        while r.plan:
            check(time.monotonic() < end, "the event is being sent")
            time.sleep(0.01)
        other = Receiver()
        c.request("PATCH", at, {"url": f"http://127.0.0.1:{other.port}/"}, want=200)
        r.release.set()
        events = [x.next()[2] for x in (r, other)]
        equal([e["data"]["weight"] for e in events], [n, n])
        while c.get(at).json["last_event"] < events[0]["id"]:
            check(time.monotonic() < end, "the second answer counts")
            time.sleep(0.02)
        c.request("PATCH", at, {"url": f"http://127.0.0.1:{r.port}/wasd"}, want=200)
        other.close()

    with case("an inactive hook gets nothing; active again it gets what came meanwhile"):
        settled()
        c.request("PATCH", at, {"active": False}, want=200)
        n = make_event()
        c.request("POST", at + ":test", want=200)
        equal(r.next()[2]["type"], "webhook.test")
        check(r.got.empty(), "nothing else was sent")
        c.request("PATCH", at, {"active": True}, want=200)
        equal(r.next()[2]["data"]["weight"], n)

    with case("one test runs at a time, another one is told to come back"):
        r.release.clear()
        r.plan = ["hold"]
        answer = queue.Queue()
        threading.Thread(target=lambda: answer.put(Client(d.port).post(at + ":test").json), daemon=True).start()
        end = time.monotonic() + 30 * PATIENCE
        while r.plan:
            check(time.monotonic() < end, "the test is being sent")
            time.sleep(0.01)
        busy = c.post(at + ":test", want=503)
        equal((busy.json["code"], busy.headers["Retry-After"]), ("busy", "1"))
        r.release.set()
        equal(answer.get(timeout=30 * PATIENCE)["delivered"], False)
        equal(c.post(at + ":test").json["delivered"], True)
        r.next()

    with case("the command line"):
        def wasd(*words, rc=0):
            p = subprocess.run([os.path.join(BUILD, "wasd"), "webhook", *words, "--url", f"http://127.0.0.1:{d.port}"], capture_output=True, text=True)
            equal(p.returncode, rc, p.stderr)
            return p.stdout
        made = wasd("add", f"http://127.0.0.1:{r.port}/two", "-e", "job.state", "--secret", SECRET).split()[0]
        check(made in wasd("ls"), "listed")
        check("delivered, status 204" in wasd("test", made), "tested")
        r.next()
        wasd("rm", made)
        check(made not in wasd("ls"), "gone")
        wasd("test", made, rc=1)

    with case("bad input is refused by its place and changes nothing"):
        for field, value, pointer in (("url", "ftp://x/", "/url"), ("url", "http://me:pw@x/", "/url"), ("url", "http:///x", "/url"),
                                      ("url", "http://x/ y", "/url"), ("events", [], "/events"), ("events", ["job state"], "/events/0"),
                                      ("events", ["jobs", 7], "/events/1"), ("secret", "short", "/secret"), ("active", 1, "/active")):
            spec = {"url": "http://127.0.0.1:9/", "events": ["jobs"], "secret": SECRET, field: value}
            why = c.post("/v1/webhooks", spec, want=422).json
            equal([e["pointer"] for e in why["errors"]], [pointer], why)
        for url in ("ftp://x", "ftp://x/y", "x", ""):        # short ones too are told of their scheme
            for method, path in (("POST", "/v1/webhooks"), ("PATCH", at)):
                why = c.request(method, path, {"url": url, "events": ["jobs"]}, want=422).json
                check("http:// or https://" in why["detail"], why)
        equal(len(c.get("/v1/webhooks").json["items"]), 1)
        made = c.post("/v1/webhooks", {"url": "http://127.0.0.1:9/", "events": ["*", "sweeps"]}, want=201).json
        check(len(made["secret"]) == 48, "a secret was made")
        c.delete(f"/v1/webhooks/{made['id']}", want=204)
        c.get(f"/v1/webhooks/{made['id']}", want=404)
    r.close()

with Daemon(args=["--webhook-retry-ms", "50", "--webhook-timeout-ms", "300"]) as d:
    with case("a receiver that does not answer is given up and tried again"):
        r = Receiver()
        r.plan = ["hold"]
        at = d.client.post("/v1/webhooks", {"url": f"http://127.0.0.1:{r.port}/", "events": ["queue.updated"], "secret": SECRET}, want=201).headers["Location"]
        d.client.request("PATCH", "/v1/queues/default", {"weight": 7}, want=200)
        equal(r.next()[2]["data"]["weight"], 7)
        r.release.set()
        end = time.monotonic() + 30 * PATIENCE
        while (rows := d.client.get(at + "/deliveries").json["items"])[0]["state"] != "delivered":
            check(time.monotonic() < end, rows)
        check("timed out" in rows[-1]["error"], rows)
        r.close()

finish()
