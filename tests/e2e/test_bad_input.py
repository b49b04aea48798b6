#!/usr/bin/python3
"""Bad requests and bad files, one row each: the request, the expected status and machine code, and the fault that the message must
name. Afterwards the daemon is the same process, holds no more descriptors than before and has left no file."""
import base64, contextlib, json, os, socket, time

from bad_files import ARCHIVES, GOOD_JPEG, GOOD_PNG, GOOD_TREE, IMAGES
from lib import PATIENCE, Daemon, case, check, equal, finish, multipart

HOST = b"Host: localhost\r\n"
J = b"Content-Type: application/json\r\n"


def post(path, body, headers=b""):
    return b"POST %s HTTP/1.1\r\n" % path.encode() + HOST + J + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


# title, bytes on the wire, status (or several), code (None: any), culprit in the message
FRAMING = [
    ("two Content-Lengths", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\n{}GET", 400, "bad_request", "Content-Length"),
    ("length and chunks", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request", "Transfer-Encoding"),
    ("two Transfer-Encodings", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request", "Transfer-Encoding"),
    ("unknown Transfer-Encoding", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400, 501), None, ""),
    ("negative length", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400, None, ""),
    ("length with a plus", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\n{}   ", 400, None, ""),
    ("length of 2^64", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551616\r\n\r\n{}", (400, 413), None, ""),
    ("space before the colon", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length : 2\r\n\r\n{}", 400, None, ""),
    ("no Host", b"GET /v1/jobs HTTP/1.1\r\n\r\n", 400, None, ""),
    ("two Hosts", b"GET /v1/jobs HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, None, ""),
    ("bad chunk size", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n", 400, None, ""),
    ("HTTP/9.9", b"GET /v1/jobs HTTP/9.9\r\n" + HOST + b"\r\n", (400, 505), None, ""),
    ("no version", b"GET\r\n\r\n", (0, 400), None, ""),
    ("a body over the limit, announced", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + J + b"Content-Length: 99999999\r\n\r\n", 413, "too_large", ""),
    ("URI of 40 KiB", b"GET /v1/jobs?q=" + b"a" * 40960 + b" HTTP/1.1\r\n" + HOST + b"\r\n", (414, 431), None, ""),
    ("header of 40 KiB", b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"X-Big: " + b"a" * 40960 + b"\r\n\r\n", (413, 431), None, ""),
    ("2,000 headers", b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: 1\r\n" % i for i in range(2000)) + b"\r\n", (413, 431), None, ""),
    ("%00 in the path", b"GET /v1/jobs/a%00b HTTP/1.1\r\n" + HOST + b"\r\n", (400, 404), None, ""),
    ("dot segments in the path", b"GET /ui/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", (400, 404), None, ""),
    ("encoded slash", b"GET /ui/..%2f..%2fetc%2fpasswd HTTP/1.1\r\n" + HOST + b"\r\n", (400, 404), None, ""),
    ("overlong UTF-8 in the path", b"GET /v1/jobs/%c0%ae%c0%ae HTTP/1.1\r\n" + HOST + b"\r\n", (400, 404), None, ""),
    ("unfinished percent", b"GET /v1/jobs/%4 HTTP/1.1\r\n" + HOST + b"\r\n", (400, 404), None, ""),
    ("a page of another origin", b"POST /v1/jobs HTTP/1.1\r\n" + HOST + J + b"Origin: http://evil.example\r\nContent-Length: 2\r\n\r\n{}", 403, "cross_origin", "evil.example"),
    ("unknown Content-Encoding", post("/v1/jobs", b"{}", b"Content-Encoding: br\r\n"), 415, "unsupported_media_type", "br"),
]

deep, wide = b"[" * 33 + b"]" * 33, b"[" + b"1," * 20001 + b"1]"
JSON_TEXTS = [
    ("no body", b"", "body_required"),
    ("null", b"null", None),
    ("an array", b"[]", None),
    ("a string", b'"x"', None),
    ("depth 33", deep, "bad_json"),
    ("20,000 values", wide, "bad_json"),
    ("100,000 brackets", b"[" * 100000, "bad_json"),
    ("a member twice", b'{"dataset":"a","dataset":"b"}', "bad_json"),
    ("garbage after it", b'{"dataset":"a"} x', "bad_json"),
    ("byte order mark", b'\xef\xbb\xbf{"dataset":"a"}', "bad_json"),
    ("\\u0000", b'{"name":"a\\u0000b"}', "bad_json"),
    ("lone surrogate", b'{"name":"\\ud800"}', "bad_json"),
    ("broken UTF-8", b'{"name":"\xc3\x28"}', "bad_json"),
    ("raw control character", b'{"name":"a\nb"}', "bad_json"),
    ("leading zero", b'{"priority":012}', "bad_json"),
    ("1.", b'{"priority":1.}', "bad_json"),
    ("hexadecimal", b'{"priority":0x10}', "bad_json"),
    ("NaN", b'{"priority":NaN}', "bad_json"),
    ("single quotes", b"{'dataset':'a'}", "bad_json"),
    ("trailing comma", b'{"dataset":"a",}', "bad_json"),
    ("cut", b'{"dataset":"a', "bad_json"),
]

GOOD = {"dataset": "glyphs", "model": {"arch": "lenet"}}
# members that override a good job spec, the pointer that must be named
SPECS = [
    ({"colour": 1}, "/colour"),
    ({"Name": "x"}, "/Name"),
    ({"dataset": None}, "/dataset"),
    ({"dataset": 5}, "/dataset"),
    ({"dataset": "no-such-set"}, "/dataset"),
    ({"dataset": {"name": "glyphs", "version": 99}}, "/dataset"),
    ({"model": {}}, "/model/arch"),
    ({"model": {"arch": "alexnet"}}, "/model/arch"),
    ({"model": {"arch": "lenet", "depth": 3}}, "/model/depth"),
    ({"model": {"arch": "vgg16", "head": 100}}, "/model/head"),
    ({"train": {"epochs": 0}}, "/train/epochs"),
    ({"train": {"epochs": -1}}, "/train/epochs"),
    ({"train": {"epochs": 1.5}}, "/train/epochs"),
    ({"train": {"epochs": 2**53 + 2}}, "/train/epochs"),
    ({"train": {"epochs": "3"}}, "/train/epochs"),
    ({"train": {"batch": 0}}, "/train/batch"),
    ({"train": {"batch": 10**9}}, "/train/batch"),
    ({"train": {"seed": -1}}, "/train/seed"),
    ({"train": {"precision": "fp8"}}, "/train/precision"),
    ({"train": {"optimizer": {"type": "adam3"}}}, "/train/optimizer/type"),
    ({"train": {"optimizer": {"type": "sgd", "lr": "0.1"}}}, "/train/optimizer/lr"),
    ({"train": {"optimizer": {"type": "sgd", "lr": -0.1}}}, "/train/optimizer/lr"),
    ({"train": {"optimizer": {"type": "sgd", "LR": 0.1}}}, "/train/optimizer/LR"),
    ({"train": {"optimizer": {"type": "sgd", "momentum": 1.5}}}, "/train/optimizer/momentum"),
    ({"train": {"schedule": {"type": "zigzag"}}}, "/train/schedule/type"),
    ({"train": {"augment": ["blur"]}}, "/train/augment"),
    ({"train": {"label_smoothing": 2}}, "/train/label_smoothing"),
    ({"was": True}, "/was"),
    ({"was": {"layers": 7}}, "/was/layers"),
    ({"was": {"transforms": [{"type": "warp"}]}}, "/was/transforms/0"),
    ({"was": {"transforms": [{"type": "translate", "x": 9}]}}, "/was/transforms/0/x"),
    ({"was": {"alpha": "huge"}}, "/was/alpha"),
    ({"checkpoint": {"every": 0}}, "/checkpoint/every"),
    ({"limits": {"threads": -1}}, "/limits/threads"),
    ({"init_from": "ckpt_none"}, "/init_from"),
    ({"labels": {"a": 1}}, "/labels"),
]

TENSOR = {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0] * 3072}]}
# method, path, body (bytes or object), status, code, culprit
ROUTES = [
    ("GET", "/nowhere", None, 404, "not_found", "/nowhere"),
    ("GET", "/v1", None, 404, "not_found", ""),
    ("GET", "/ui/none.js", None, 404, "not_found", ""),
    ("DELETE", "/v1/jobs", None, 405, "method_not_allowed", "DELETE"),
    ("PUT", "/v1/jobs/job_x", {}, 405, "method_not_allowed", "PUT"),
    ("BREW", "/v1/jobs", None, (405, 501), None, ""),
    ("GET", "/v1/jobs/job_none", None, 404, "not_found", "job_none"),
    ("GET", "/v1/jobs?limit=0", None, 400, "bad_parameter", "limit"),
    ("GET", "/v1/jobs?limit=ten", None, 400, "bad_parameter", "limit"),
    ("GET", "/v1/jobs?cursor=zzz", None, 400, "bad_parameter", "cursor"),
    ("GET", "/v1/jobs?sort=colour", None, 400, "bad_parameter", "sort"),
    ("GET", "/v1/jobs?colour=red", None, 400, "unknown_parameter", "colour"),
    ("GET", "/v1/jobs?state=flying", None, 400, "bad_parameter", "state"),
    ("GET", "/v1/jobs/job_none?wait=forever", None, 400, "bad_parameter", "wait"),
    ("GET", "/v1/jobs/job_none/metrics", None, 404, "not_found", "job_none"),
    ("GET", "/v1/jobs/job_none/logs", None, 404, "not_found", "job_none"),
    ("GET", "/v1/jobs/job_none/checkpoints", None, 404, "not_found", "job_none"),
    ("POST", "/v1/jobs/job_none:cancel", {}, 404, "not_found", "job_none"),
    ("POST", "/v1/jobs/{job}:cancel", {"mode": "softly"}, 422, "invalid_field", "/mode"),
    ("DELETE", "/v1/jobs/job_none", None, 404, "not_found", "job_none"),
    ("GET", "/v1/jobs/{job}/metrics?from_step=-1", None, 400, "bad_parameter", "from_step"),
    ("GET", "/v1/jobs/{job}/logs?level=loud", None, 400, "bad_parameter", "level"),
    ("PATCH", "/v1/jobs/{job}", {"state": "completed"}, 422, "invalid_field", "/state"),
    ("GET", "/v1/checkpoints/ckpt_none/file", None, 404, "not_found", "ckpt_none"),
    ("GET", "/v1/checkpoints/{ckpt}/file?format=pickle", None, (400, 422), None, "format"),
    ("DELETE", "/v1/checkpoints/{ckpt}", None, 409, "referenced", "live"),
    ("DELETE", "/v1/jobs/{job}", None, 409, "referenced", "live"),
    ("GET", "/v1/datasets/none", None, 404, "not_found", "none"),
    ("GET", "/v1/datasets/glyphs/versions/7", None, 404, "not_found", "7"),
    ("GET", "/v1/datasets/glyphs/preview?i=100000", None, (400, 404), None, "i"),
    ("GET", "/v1/datasets/glyphs/preview?split=other", None, 400, "bad_parameter", "split"),
    ("PUT", "/v1/datasets/UPPER", GOOD_TREE, (400, 404, 422), None, "UPPER"),
    ("PUT", "/v1/datasets/stats", GOOD_TREE, (400, 404, 422), None, "stats"),
    ("PUT", "/v1/datasets/empty", b"", 400, "body_required", ""),
    ("POST", "/v1/datasets", {"name": "x", "synthetic": {"kind": "clouds", "train": 10, "test": 10}}, 422, "invalid_field", "/synthetic/kind"),
    ("POST", "/v1/datasets", {"name": "x", "synthetic": {"kind": "glyphs", "train": 0, "test": 10}}, 422, "invalid_field", "/synthetic/train"),
    ("POST", "/v1/datasets", {"name": "x", "synthetic": {"kind": "glyphs", "train": 10**12, "test": 10}}, 422, "invalid_field", "/synthetic/train"),
    ("POST", "/v1/datasets", {"name": "No Name", "synthetic": {"kind": "glyphs"}}, 422, "invalid_field", "/name"),
    ("DELETE", "/v1/datasets/none", None, 404, "not_found", "none"),
    ("POST", "/v1/deployments", {"name": "x"}, 422, "invalid_field", "/source"),
    ("POST", "/v1/deployments", {"name": "x", "source": {"job": "job_none"}}, (404, 422), None, "job_none"),
    ("POST", "/v1/deployments", {"name": "live", "source": {"job": "{job}"}}, 409, "name_taken", "live"),
    ("POST", "/v1/deployments", {"name": "x", "source": {"job": "{job}"}, "mode": "fast"}, 422, "invalid_field", "/mode"),
    ("POST", "/v1/checkpoints/ckpt_none/profiles", {"desire": "macs", "budget": 0.7}, 404, "not_found", "ckpt_none"),
    ("GET", "/v1/checkpoints/{ckpt}/profiles/none", None, 404, "not_found", "none"),
    ("GET", "/v1/checkpoints/{ckpt}/profiles/none?wait=-1s", None, 400, "bad_parameter", "wait"),
    ("DELETE", "/v1/checkpoints/{ckpt}/profiles/none", None, 404, "not_found", "none"),
    ("POST", "/v1/checkpoints/{ckpt}/profiles", {}, 422, "invalid_field", "/desire"),
    ("POST", "/v1/checkpoints/{ckpt}/profiles", {"desire": "macs", "budget": -1}, 422, "invalid_field", "/budget"),
    ("POST", "/v1/checkpoints/{ckpt}/profiles", {"desire": "latency", "budget_us": "fast"}, 422, "invalid_field", "/budget_us"),
    ("POST", "/v1/checkpoints/{ckpt}/profiles", {"draw": [None] * 1001}, 422, "invalid_field", "/draw"),
    ("POST", "/v1/checkpoints/{ckpt}/profiles", {"desire": "macs", "budget": 0.7, "name": "dom"}, 422, "invalid_field", "/name"),
    ("POST", "/v1/checkpoints/{ckpt}/profiles", {"desire": "macs", "budget": 0.7, "dataset": "none"}, 422, "invalid_field", "/dataset"),
    ("POST", "/v1/checkpoints/{ckpt}/profiles", b"x" * 300000, 413, "too_large", ""),
    ("GET", "/v1/checkpoints/{ckpt}/file?format=onnx&mode=dom:none", None, 422, "unsupported", "none"),
    ("PUT", "/v1/deployments/live/mode", {"mode": "dom:none"}, 422, "invalid_field", "/mode"),
    ("PUT", "/v1/deployments/live/mode", {"mode": "dom:"}, 422, "invalid_field", "/mode"),
    ("POST", "/v1/deployments/live/classify?mode=dom:none", GOOD_PNG, 400, "bad_parameter", "mode"),
    ("GET", "/v1/deployments/none", None, 404, "not_found", "none"),
    ("PUT", "/v1/deployments/live/mode", {"mode": "turbo"}, 422, "invalid_field", "/mode"),
    ("PUT", "/v1/deployments/live/mode", {}, 422, "invalid_field", "/mode"),
    ("PUT", "/v1/deployments/none/mode", {"mode": "dom"}, 404, "not_found", "none"),
    ("PUT", "/v1/deployments/plain/mode", {"mode": "dom"}, 409, "bundle_not_ready", "dom"),
    ("POST", "/v1/deployments/live/classify?k=0", GOOD_PNG, 400, "bad_parameter", "k"),
    ("POST", "/v1/deployments/live/classify?mode=both", GOOD_PNG, 400, "bad_parameter", "mode"),
    ("POST", "/v1/deployments/live/classify", {"images": []}, 422, None, "/images"),
    ("POST", "/v1/deployments/live/classify", {"images": ["%%%"]}, 422, None, "/images/0"),
    ("POST", "/v1/deployments/live/classify", {"images": [base64.b64encode(GOOD_PNG).decode(), base64.b64encode(b"no").decode()]}, 422, "bad_image", "/images/1"),
    ("GET", "/v2/models/none", None, 404, "not_found", "none"),
    ("POST", "/v2/models/none/infer", TENSOR, 404, "not_found", "none"),
    ("POST", "/v2/models/live/infer", {}, 400, None, "inputs"),
    ("POST", "/v2/models/live/infer", {"inputs": [{"name": "pixels", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0] * 3072}]}, 400, "bad_tensor", "/inputs/0/name"),
    ("POST", "/v2/models/live/infer", {"inputs": [{"name": "input", "shape": [1, 3, 31, 32], "datatype": "FP32", "data": [0] * 2976}]}, 400, "bad_tensor", "31"),
    ("POST", "/v2/models/live/infer", {"inputs": [{"name": "input", "shape": [0, 3, 32, 32], "datatype": "FP32", "data": []}]}, 400, "bad_tensor", "shape"),
    ("POST", "/v2/models/live/infer", {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": [0] * 3071}]}, 400, "bad_tensor", "3071"),
    ("POST", "/v2/models/live/infer", {"inputs": [{"name": "input", "shape": [2**40, 3, 32, 32], "datatype": "FP32", "data": [0]}]}, 400, "bad_tensor", "shape"),
    ("POST", "/v2/models/live/infer", {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FLOAT", "data": [0] * 3072}]}, 400, "bad_tensor", "FLOAT"),
    ("POST", "/v2/models/live/infer", {"inputs": [{"name": "input", "shape": [1, 3, 32, 32], "datatype": "FP32", "data": ["x"] * 3072}]}, 400, "bad_tensor", "data"),
    ("POST", "/v2/models/live/versions/7/infer", TENSOR, 404, "not_found", "7"),
    ("GET", "/v1/audit?since=yesterday", None, 400, "bad_parameter", "since"),
    ("GET", "/v1/events?last_event_id=x", None, 400, "bad_parameter", "last_event_id"),
]


def exchange(port, data):
    """(first status or 0, number of successes, body) of the response to these bytes; the connection may be cut at any moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=30 * PATIENCE) as s:
        with contextlib.suppress(OSError):
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(OSError):
            while part := s.recv(65536):
                got += part
    head, _, body = got.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), got.count(b"HTTP/1.1 2"), body


def judge(title, status, body, want, code, culprit):
    check(status in (want if isinstance(want, tuple) else (want,)), f"{title}: status {status}, want {want}: {body[:300]!r}")
    if code is None and not culprit:
        return
    try:
        problem = json.loads(body)
    except ValueError:
        raise AssertionError(f"{title}: {status} without a problem document: {body[:300]!r}") from None
    if code:
        equal(problem["code"], code, title)
    words = json.dumps([problem["detail"], problem.get("errors", [])])
    check(culprit in words, f"{title}: {culprit!r} is not named in {words}")


def files_below(d):
    return sorted(os.path.relpath(os.path.join(at, f), d.data) for at, _, files in os.walk(d.data) for f in files if not f.startswith(("wasd.db", "ckpt.db")))


@contextlib.contextmanager
def rows(name, table):
    """A case over a table: every row runs, and all failures are listed."""
    with case(f"{name} ({len(table)} rows)"):
        wrong = []

        def row(work, *args):
            try:
                work(*args)
            except AssertionError as e:
                wrong.append(str(e))
        yield row
        check(not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong))


with Daemon() as d:
    c, known = d.client, {}
    with case("a live model as the target of bad requests"):
        d.glyphs(train=200, test=50)
        for name, was in (("live", {"layers": "all"}), ("plain", False)):
            job = d.submit(dataset="glyphs", model={"arch": "lenet"}, was=was, train={"epochs": 1, "batch": 50})
            d.wait_job(job["id"])
            d.deploy(name, job["id"])
            if name == "live":
                known = {"job": job["id"], "ckpt": c.get(f"/v1/jobs/{job['id']}/checkpoints").json["items"][0]["id"]}
        for kind, data in (("image/png", GOOD_PNG), ("image/jpeg", GOOD_JPEG)):
            c.post("/v1/deployments/live/classify", data, want=200, headers={"Content-Type": kind})
        c.put("/v1/datasets/good", GOOD_TREE)
        d.wait_dataset("good")
    pid, descriptors, jobs = d.pid, d.descriptors(), c.get("/v1/jobs").json["items"]
    files = [f for f in files_below(d) if not f.startswith("staging/")]        # a data set is ready shortly before its upload is removed

    def filled(x):
        text = json.dumps(x) if not isinstance(x, (str, bytes)) else x
        if isinstance(text, bytes):
            return text
        for key, value in known.items():
            text = text.replace("{%s}" % key, value)
        return text if isinstance(x, str) else json.loads(text)

    with rows("HTTP framing", FRAMING) as row:
        def framing(title, data, status, code, culprit):
            got, successes, body = exchange(d.port, data)
            judge(title, got, body, status, code, culprit)
            equal(successes, 0, f"{title}: what followed was taken for a request")
        for r in FRAMING:
            row(framing, *r)

    with rows("JSON texts", JSON_TEXTS) as row:
        def text(title, body, code):
            reply = c.request("POST", "/v1/jobs", body, {"Content-Type": "application/json"})
            judge(title, reply.status, reply.body, (400, 422) if code is None else 400, code, "")
        for r in JSON_TEXTS:
            row(text, *r)

    with rows("job specs", SPECS) as row:
        def spec(over, pointer):
            reply = c.request("POST", "/v1/jobs", {**GOOD, **over})
            judge(json.dumps(over), reply.status, reply.body, (404, 409, 422), None, pointer)
        for r in SPECS:
            row(spec, *r)
        for text in ("1e999", "1e-400"):
            body = b'{"dataset":"glyphs","model":{"arch":"lenet"},"train":{"optimizer":{"type":"sgd","lr":%s}}}' % text.encode()
            if text == "1e999":
                row(lambda: judge(text, *(lambda r: (r.status, r.body))(c.request("POST", "/v1/jobs", body, {"Content-Type": "application/json"})), (400, 422), None, ""))

    with rows("routes and their bodies", ROUTES) as row:
        def route(method, path, body, status, code, culprit):
            reply = c.request(method, filled(path), filled(body) if body is not None else None)
            judge(f"{method} {path} {str(body)[:80] if body is not None else ''}", reply.status, reply.body, status, code, culprit)
            if status == 405:
                check(reply.headers["Allow"], f"{path}: Allow")
        for r in ROUTES:
            row(route, *r)

    with rows("images to classify", IMAGES) as row:
        def image(title, data, words):
            reply = c.request("POST", "/v1/deployments/live/classify", data, {"Content-Type": "image/png"})
            judge(title, reply.status, reply.body, 422, "bad_image", "")
            check(words.lower() in reply.json["detail"].lower(), f"{title}: {words!r} is not in {reply.json['detail']!r}")
        for r in IMAGES:
            row(image, *r)

    MULTIPART = [("no boundary", "multipart/form-data", b"--x\r\n", "boundary"), ("no closing line", *multipart([("image", "a.png", "image/png", GOOD_PNG)]), ""),
                 ("no parts", *multipart([]), ""), ("garbage", "multipart/form-data; boundary=q", b"nothing of the kind", "")]
    with rows("multipart bodies", MULTIPART) as row:
        def parts(title, kind, body, culprit):
            if title == "no closing line":
                body = body[:-12]
            reply = c.request("POST", "/v1/deployments/live/classify", body, {"Content-Type": kind})
            judge(title, reply.status, reply.body, (400, 422), None, culprit)
        for r in MULTIPART:
            row(parts, *r)
        row(lambda: judge("unknown media type", *(lambda r: (r.status, r.body))(c.request("POST", "/v1/deployments/live/classify", b"x,y", {"Content-Type": "text/csv"})), 415, "unsupported_media_type", "text/csv"))

    with rows("archives", ARCHIVES) as row:
        def archive(title, data, culprit):
            name = "bad-" + "".join(x if x.isalnum() else "-" for x in title.lower())[:50]
            reply = c.request("PUT", f"/v1/datasets/{name}", data)
            if reply.status == 202:
                info = d.wait_dataset(name, want="invalid")
                words = json.dumps(info)
                check(info.get("message"), f"{title}: no message: {words}")
            else:
                judge(title, reply.status, reply.body, (400, 415, 422), None, "")
                words = reply.body.decode()
            check(culprit in words, f"{title}: {culprit!r} is not named in {words}")
        for r in ARCHIVES:
            row(archive, *r)

    with case("files truncated in transit are not kept"):
        for data in (GOOD_TREE, b"x" * 300000):
            with socket.create_connection(("127.0.0.1", d.port)) as s:
                s.sendall(b"PUT /v1/datasets/cut HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (len(data) + 1000) + data)
        c.get("/v1/datasets/cut", want=404)

    with case("afterwards: the same process, no more descriptors, nothing left behind"):
        check(d.alive() and d.pid == pid, "the daemon is still there")
        end = time.monotonic() + 20 * PATIENCE
        while (d.descriptors() > descriptors + 2 or files_below(d) != files) and time.monotonic() < end:
            time.sleep(0.1)
        check(d.descriptors() <= descriptors + 2, f"{d.descriptors()} descriptors, {descriptors} before")
        equal(files_below(d), files, "files in the data directory")
        equal([j["id"] for j in c.get("/v1/jobs").json["items"]], [j["id"] for j in jobs], "jobs")
        c.post("/v1/deployments/live/classify", GOOD_PNG, want=200, headers={"Content-Type": "image/png"})
        check("ERROR: AddressSanitizer" not in d.messages(10**7) and "runtime error" not in d.messages(10**7), "sanitizer reports")

finish()
