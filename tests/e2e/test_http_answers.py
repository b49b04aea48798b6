#!/usr/bin/python3
"""Answers that clients really get to read: refusals while a body is still being sent, in the form that the protocol of the route wants;
entity tags that stand for one representation and do not change with traffic; filters of a followed log; readiness."""
import concurrent.futures, contextlib, gzip, http.client, json, os, signal, socket, time, zlib

from lib import PATIENCE, Client, Daemon, case, check, equal, finish

BODY = b"x" * (9 << 20)


def send_all_then_read(port, head, body):
    """As tritonclient, httpx and urllib do: the answer is read after the whole body was sent."""
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(f"{head}\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    s.sendall(body)
    r = http.client.HTTPResponse(s)
    r.begin()
    text = r.read()
    s.close()
    return r.status, r.headers, text


with Daemon(args=("--max-connections", "64")) as d:
    c = d.client
    d.glyphs(train=200, test=50)
    job = d.wait_job(d.submit(dataset="glyphs", model={"arch": "lenet"}, was={"layers": "all"}, train={"epochs": 2, "batch": 32})["id"])["id"]
    d.deploy("reader", job)

    with case("404, 405, 413, 415 and 400 reach a client that first sends megabytes"):
        for head, status in (("POST /v1/nothing HTTP/1.1", 404), ("PUT /v2/models/reader/infer HTTP/1.1", 405), ("POST /v1/jobs HTTP/1.1", 413),
                             ("POST /v2/models/reader/infer HTTP/1.1\r\nContent-Encoding: br", 415), ("GET /v1/jobs HTTP/1.1", 400)):
            for _ in range(3):
                got, headers, text = send_all_then_read(d.port, head, BODY)
                equal(got, status, head)
                equal(json.loads(text)["status"], status)
                if "/v2/" in head:
                    equal((headers["Content-Type"], json.loads(text)["error"]), ("application/json", json.loads(text)["detail"]))

    with case("of eight changes with the same If-Match one succeeds, in every round"):
        def change(client, tag):
            return client.request("PATCH", f"/v1/jobs/{job}", {"note": f"of {id(client)}"}, headers={"If-Match": tag}).status

        clients = [Client(d.port) for _ in range(8)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for _ in range(40):
                tag = c.get(f"/v1/jobs/{job}").headers["ETag"]
                equal(sorted(pool.map(change, clients, [tag] * 8)), [200] + [412] * 7)

    with case("refusals before the path is read have the member error on /v2"):
        for head in ("GET /v2/" + "a" * 9000 + " HTTP/1.1", "GET /v2/models HTTP/1.1\r\nX: " + "a" * 20000, "GET /v2/models/%zz HTTP/1.1",
                     "POST /v2/models HTTP/1.1\r\nTransfer-Encoding: chunked"):
            got, headers, text = send_all_then_read(d.port, head, b"")
            check(got in (400, 414, 431), f"{head[:40]}: {got}")
            equal((headers["Content-Type"], json.loads(text)["error"]), ("application/json", json.loads(text)["detail"]))

    with case("connections over the limit: 503 with error"):
        held, answer = [], b""
        while not answer and len(held) < 200:
            held.append(socket.create_connection(("127.0.0.1", d.port)))
            held[-1].setblocking(False)
            for s in held:
                try:
                    answer = s.recv(4096)
                except BlockingIOError:
                    continue
                break
        head, _, text = answer.partition(b"\r\n\r\n")
        check(b" 503 " in head and json.loads(text)["error"] == "too many connections", answer)
        equal(int([line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")][0].split()[1]), len(text))
        for s in held:
            s.close()
        c.close()
        end = time.monotonic() + 20 * PATIENCE      # the daemon notices the closed connections one after the other
        while c.request("GET", "/healthz").status == 503:
            c.close()
            check(time.monotonic() < end, "the places of closed connections stay taken")

    with case("a deployment's entity tag stays under traffic; counters are a resource of their own"):
        url = "/v1/deployments/reader"
        tag = c.get(url).headers["ETag"]
        before = c.get(url + "/stats").json
        body = {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0] * 3072}]}
        for _ in range(3):
            c.post("/v2/models/reader/infer", body)
        c.get("/v2/models/reader")
        c.get(url, want=304, headers={"If-None-Match": tag})
        after = c.get(url + "/stats").json
        equal([after[k] - before[k] for k in ("requests", "failed", "in_flight")], [3, 0, 0], "metadata is no inference")
        equal(after["inference_count"] - before["inference_count"], 3)
        check(after["last_inference_at"].endswith("Z"), after)

    with case("an output's own binary_data counts before the request's binary_data_output, either way"):
        for whole in (True, False):
            r = c.post("/v2/models/reader/infer", {**body, "parameters": {"binary_data_output": whole}, "outputs": [{"name": "logits", "parameters": {"binary_data": not whole}}, {"name": "probs"}]})
            n = int(r.headers["Inference-Header-Content-Length"])
            outputs = {o["name"]: o for o in json.loads(r.body[:n])["outputs"]}
            binary, plain = ("probs", "logits") if whole else ("logits", "probs")
            equal(outputs[binary]["parameters"]["binary_data_size"], len(r.body) - n)
            check("data" not in outputs[binary] and len(outputs[plain]["data"]) == 10 and "parameters" not in outputs[plain], outputs)

    with case("a compressed answer has an entity tag of its own, which stands for the same content"):
        plain = c.get("/v1/capabilities")
        tags = {plain.headers["ETag"]}
        for coding, read in (("gzip", gzip.decompress), ("deflate", zlib.decompress), ("zstd", None)):
            packed = c.get("/v1/capabilities", headers={"Accept-Encoding": coding})
            equal((packed.headers["Content-Encoding"], packed.headers["Vary"]), (coding, "Accept-Encoding"))
            check(packed.body[:4] == b"\x28\xb5\x2f\xfd" if coding == "zstd" else read(packed.body) == plain.body, coding)
            check(len(packed.body) < len(plain.body) / 2 and packed.headers["ETag"].endswith(f'-{coding}"'), coding)
            tags.add(packed.headers["ETag"])
        equal(len(tags), 4, "each representation has its own")
        for tag in tags:
            for coding in ("identity", "gzip", "deflate", "zstd"):
                c.get("/v1/capabilities", want=304, headers={"If-None-Match": tag, "Accept-Encoding": coding})

    with case("a range beyond the end is a whole problem document"):
        ckpt = c.get(f"/v1/jobs/{job}/checkpoints").json["items"][0]["id"]
        r = c.get(f"/v1/checkpoints/{ckpt}/file", want=416, headers={"Range": "bytes=999999999-"})
        check({"type", "title", "status", "detail", "instance", "code", "request_id", "errors"} <= set(r.json), r.json)

    with case("logs?follow=1 heeds level, q and attempt"):
        whole = c.get(f"/v1/jobs/{job}/logs").body.decode().splitlines()
        word = whole[-1].split()[-1]
        for query, keep in (("q=" + word, lambda line: word in line), ("level=error", lambda line: " error " in line), ("attempt=7", lambda line: False)):
            got = c.get(f"/v1/jobs/{job}/logs?follow=1&{query}").body.decode().splitlines()
            equal(got, [line for line in whole if keep(line)], query)
            equal(got, c.get(f"/v1/jobs/{job}/logs?{query}").body.decode().splitlines(), query)

    with case("not ready while the inference process is down; the refusal says what is wrong"):
        refusals = 0
        while not refusals:                               # the process may be back before the question comes
            for pid in d.engines("infer"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            while True:
                r = c.request("GET", "/v2/health/ready")
                if r.status == 503:
                    equal(r.json["ready"], False)
                    refusals += 1
                refused = c.request("POST", "/v2/models/reader/infer", body)
                check(refused.status in (200, 503) and "reader is ready" not in refused.json.get("error", ""), refused)
                if r.status == refused.status == 200:
                    break

finish()
