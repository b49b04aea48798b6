#!/usr/bin/python3
"""Conversations of unmodified clients with a daemon: run by test_stock_clients.py with the Python of a virtual environment that
contains them. Arguments: port, model, a JPEG file. Prints the lines that tests/run counts."""
import asyncio, json, sys

import numpy
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

from lib import case, check, equal, finish

port, model, picture = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
url = f"127.0.0.1:{port}"
client = http.InferenceServerClient(url, concurrency=4)
meta = client.get_model_metadata(model)
shape = meta["inputs"][0]["shape"][1:]
classes = json.loads(meta["properties"]["classes"])
rng = numpy.random.default_rng(1)
pixels = rng.integers(0, 256, (2, *shape), dtype="uint8")
x = ((pixels / 255.0 - 0.5) / 0.5).astype("float32")


def tensor(data, datatype, name="input", binary=True):
    t = http.InferInput(name, list(data.shape), datatype)
    t.set_data_from_numpy(data, binary_data=binary)
    return t


def infer(t, outputs=None, **kw):
    return client.infer(model, [t], outputs=outputs, **kw)


def refused(what, status, call):
    try:
        call()
    except InferenceServerException as e:
        check(what in e.message(), e.message())
        equal(e.status(), str(status))
    else:
        raise AssertionError("it was not refused")


reference = infer(tensor(x, "FP32")).as_numpy("logits")

with case("tritonclient: its initial requests for server and model"):
    check(client.is_server_live() and client.is_server_ready() and client.is_model_ready(model), "live and ready")
    check({"binary_tensor_data", "classification"} <= set(client.get_server_metadata()["extensions"]), "extensions")
    equal(client.get_model_config(model)["max_batch_size"], 64)
    equal((meta["inputs"][1]["name"], meta["inputs"][1]["datatype"], meta["inputs"][1]["shape"]), ("image", "BYTES", [-1]))

with case("tritonclient: JSON and binary, in and out, nested in every way, give the same numbers"):
    for binary_in in (True, False):
        for binary_out in (True, False):
            outputs = [http.InferRequestedOutput(n, binary_data=binary_out) for n in ("probs", "logits")]
            r = infer(tensor(x, "FP32", binary=binary_in), outputs)
            check((r.as_numpy("logits") == reference).all(), f"binary {binary_in}, {binary_out}")
            check(numpy.allclose(r.as_numpy("probs").sum(1), 1, atol=1e-5), "probabilities")

with case("tritonclient: every datatype that numpy has"):
    for datatype, kind in (("FP16", "float16"), ("FP64", "float64")):
        got = infer(tensor(x.astype(kind), datatype)).as_numpy("logits")
        want = infer(tensor(x.astype(kind).astype("float32"), "FP32")).as_numpy("logits")
        check((got == want).all(), datatype)
    for datatype in ("INT8", "INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64"):
        v = rng.integers(0, 2, x.shape).astype(datatype.lower())
        got, want = infer(tensor(v, datatype)).as_numpy("logits"), infer(tensor(v.astype("float32"), "FP32")).as_numpy("logits")
        check((got == want).all(), datatype)
    v = rng.integers(0, 2, x.shape).astype(bool)
    check((infer(tensor(v, "BOOL")).as_numpy("logits") == infer(tensor(v.astype("float32"), "FP32")).as_numpy("logits")).all(), "BOOL")

with case("tritonclient: UINT8 means pixels"):
    for binary in (True, False):
        check((infer(tensor(pixels, "UINT8", binary=binary)).as_numpy("logits") == reference).all(), f"binary {binary}")

with case("tritonclient: pictures as BYTES, one and several"):
    one = infer(tensor(numpy.array([picture], dtype=object), "BYTES", "image")).as_numpy("logits")
    two = infer(tensor(numpy.array([picture, picture], dtype=object), "BYTES", "image")).as_numpy("logits")
    check(one.shape == (1, len(classes)) and numpy.allclose(two, one, atol=1e-4), "the same picture")
    refused("element 0", 400, lambda: infer(tensor(numpy.array([b"nothing"], dtype=object), "BYTES", "image")))

with case("tritonclient: classification, binary and JSON"):
    for binary in (True, False):
        r = infer(tensor(x, "FP32"), [http.InferRequestedOutput("probs", binary_data=binary, class_count=3)]).as_numpy("probs")
        equal(r.shape, (2, 3))
        for i, row in enumerate(r):
            row = [(v.decode() if isinstance(v, bytes) else v).split(":") for v in row]
            order = sorted(range(len(classes)), key=lambda k: -reference[i][k])[:3]
            equal([int(index) for _, index, _ in row], order)
            equal([label for _, _, label in row], [classes[k] for k in order])

with case("tritonclient: compressed requests and responses"):
    for request in (None, "gzip", "deflate"):
        for response in (None, "gzip", "deflate"):
            r = infer(tensor(x, "FP32"), request_compression_algorithm=request, response_compression_algorithm=response)
            check((r.as_numpy("logits") == reference).all(), f"{request}, {response}")
            r = infer(tensor(x, "FP32", binary=False), [http.InferRequestedOutput("logits", binary_data=False)],
                      request_compression_algorithm=request, response_compression_algorithm=response)
            check((r.as_numpy("logits") == reference).all(), f"{request}, {response}, JSON")

with case("tritonclient: modes by version, parameter, header, query and alias"):
    for how in (dict(model_version="1-dom"), dict(parameters={"was_mode": "dom"}), dict(headers={"WASD-Mode": "dom"}), dict(query_params={"mode": "dom"})):
        equal(infer(tensor(x, "FP32"), **how).get_response()["parameters"]["was_mode"], "dom")
    equal(client.infer(f"{model}@dom", [tensor(x, "FP32")]).get_response()["parameters"]["was_mode"], "dom")
    refused("asks for", 400, lambda: infer(tensor(x, "FP32"), model_version="1-dom", headers={"WASD-Mode": "aom"}))

with case("tritonclient: ids, priority and timeout; clear error messages"):
    equal(infer(tensor(x, "FP32"), request_id="nr 7", priority=1, timeout=30_000_000).get_response()["id"], "nr 7")
    refused("no deployment", 404, lambda: client.infer("nothing", [tensor(x, "FP32")]))
    refused("shape", 400, lambda: infer(tensor(x[:, :1, :1], "FP32")))
    refused("at most", 400, lambda: infer(tensor(numpy.zeros((65, *shape), "float32"), "FP32")))
    refused("nan", 400, lambda: infer(tensor(numpy.full_like(x, numpy.nan), "FP32")))
    refused("input", 400, lambda: infer(tensor(x, "FP32", "pixels")))

with case("tritonclient: JSON bodies of several megabytes"):
    many = rng.random((64, *shape), dtype="float32")
    json_in = infer(tensor(many, "FP32", binary=False), [http.InferRequestedOutput("logits", binary_data=False)]).as_numpy("logits")
    check((json_in == infer(tensor(many, "FP32")).as_numpy("logits")).all(), "64 images")

with case("tritonclient: async_infer"):
    waiting = [client.async_infer(model, [tensor(x, "FP32")]) for _ in range(16)]
    check(all((w.get_result().as_numpy("logits") == reference).all() for w in waiting), "16 at once")


async def many_at_once():
    async with aio.InferenceServerClient(url) as c:
        t = aio.InferInput("input", list(x.shape), "FP32")
        t.set_data_from_numpy(x)
        check(await c.is_model_ready(model), "ready")
        for r in await asyncio.gather(*[c.infer(model, [t]) for _ in range(16)]):
            check((r.as_numpy("logits") == reference).all(), "the same numbers")


with case("tritonclient.aio"):
    asyncio.run(many_at_once())

client.close()
finish()
